//! The grammar of memory-layout strings, one nom parser a rule.

use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag, take_while, take_while_m_n, take_while1},
    character::complete::{char, one_of},
    combinator::{eof, map_opt, opt, peek, value},
    sequence::{delimited, preceded, terminated},
};

use super::{Access, LayoutError, Segment};

/// Why reading stopped. `at` is the text from there on.
pub(super) enum Failure<'a> {
    /// Not the grammar: garbage if something valid stands before it.
    Syntax { at: &'a [u8] },
    /// The grammar, but with a value that cannot be: always an error.
    Value { at: &'a [u8], problem: Problem },
}

#[derive(Clone, Copy)]
pub(super) enum Problem {
    Empty,
    Beyond,
}

impl Problem {
    pub(super) const fn at(self, offset: usize) -> LayoutError {
        match self {
            Self::Empty => LayoutError::EmptySegment { offset },
            Self::Beyond => LayoutError::BeyondAddressSpace { offset },
        }
    }
}

/// `count "*" size mult type`, numbers not yet judged; `None` stands for one that exceeds 32 bits.
pub(super) struct Sector<'a> {
    at: &'a [u8],
    count: Option<u32>,
    size: Option<u32>,
    unit: u32,
    access: Access,
}

impl<'a> Sector<'a> {
    pub(super) fn segment(&self, start: u64) -> Result<Segment, Failure<'a>> {
        let fail = |problem| Failure::Value { at: self.at, problem };
        let beyond = || fail(Problem::Beyond);
        if self.count == Some(0) || self.size == Some(0) {
            return Err(fail(Problem::Empty));
        }
        let pages = self.count.ok_or_else(beyond)?;
        let page_size = self.size.and_then(|size| size.checked_mul(self.unit)).ok_or_else(beyond)?;
        let start = u32::try_from(start).map_err(|_| beyond())?;
        let segment = Segment { start, page_size, pages, access: self.access };
        if segment.end() > 1 << 32 { Err(beyond()) } else { Ok(segment) }
    }
}

/// What follows, where the sector starts, and the sector.
type Item<'a> = (&'a [u8], u64, Sector<'a>);

/// "@" and the name, up to the first "/".
pub(super) fn name(text: &[u8]) -> Result<(&[u8], &[u8]), LayoutError> {
    let parsed: IResult<&[u8], &[u8]> = preceded(char('@'), take_while(|byte| byte != b'/')).parse(text);
    parsed.map_err(|_| LayoutError::NoAtSign)
}

/// The next sector: after "," in the same block, or after "/address/" in a new one. `None` at the end of the text.
pub(super) fn item(input: &[u8], next: Option<u64>) -> Result<Option<Item<'_>>, Failure<'_>> {
    if end(input).is_ok() {
        return Ok(None);
    }
    let syntax = |_| Failure::Syntax { at: input };
    let (rest, start) = match (next, comma(input)) {
        (Some(next), Ok((rest, ()))) => (rest, next),
        _ => address(input).map_err(syntax)?,
    };
    let (rest, sector) = sector(rest).map_err(syntax)?;
    Ok(Some((rest, start, sector)))
}

fn spaces(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while(|byte| byte == b' ')(input)
}

fn end(input: &[u8]) -> IResult<&[u8], ()> {
    value((), (opt(char(',')), spaces, eof)).parse(input)
}

fn comma(input: &[u8]) -> IResult<&[u8], ()> {
    value((), (char(','), spaces)).parse(input)
}

fn address(input: &[u8]) -> IResult<&[u8], u64> {
    let digits = take_while_m_n(1, 8, |byte: u8| byte.is_ascii_hexdigit());
    let hex = map_opt(digits, |digits| u64::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok());
    // A comma may stand before the slash of the next block.
    preceded(opt(char(',')), delimited(tag("/0x"), hex, char('/'))).parse(input)
}

fn number(input: &[u8]) -> IResult<&[u8], Option<u32>> {
    take_while1(|byte: u8| byte.is_ascii_digit())
        .map(|digits| core::str::from_utf8(digits).ok()?.parse().ok())
        .parse(input)
}

fn multiplier(input: &[u8]) -> IResult<&[u8], u32> {
    alt((
        value(1024, char('K')),
        value(1024 * 1024, char('M')),
        value(1, one_of(" B")),
        value(1, peek(one_of("abcdefg"))),
    ))
    .parse(input)
}

fn sector(input: &[u8]) -> IResult<&[u8], Sector<'_>> {
    let letter = map_opt(one_of("abcdefg"), |letter| Access::from_letter(u8::try_from(letter).ok()?));
    let parts = (number, char('*'), number, multiplier, terminated(letter, spaces));
    parts.map(|(count, _, size, unit, access)| Sector { at: input, count, size, unit, access }).parse(input)
}
