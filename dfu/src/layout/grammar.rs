//! The grammar of memory-layout strings, one nom parser a rule.

use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag, take_while, take_while_m_n, take_while1},
    character::complete::{char, one_of},
    combinator::{cond, eof, map_opt, opt, peek, value, verify},
    error::Error,
    number::complete::u8,
    sequence::{preceded, terminated},
};

use super::{Access, LayoutError, Segment, options::Rules};

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
pub(super) fn item(input: &[u8], next: Option<u64>, rules: Rules) -> Result<Option<Item<'_>>, Failure<'_>> {
    if end(input, rules).is_ok() {
        return Ok(None);
    }
    let syntax = |_| Failure::Syntax { at: input };
    let (rest, start) = match (next, comma(input, rules)) {
        (Some(next), Ok((rest, ()))) if !rest.starts_with(b"/") => (rest, next),
        _ => address(input, next.is_some(), rules).map_err(syntax)?,
    };
    let (rest, sector) = sector(rest, rules).map_err(syntax)?;
    Ok(Some((rest, start, sector)))
}

fn only_if<'a, O>(
    allowed: bool,
    parser: impl Parser<&'a [u8], Output = O, Error = Error<&'a [u8]>>,
) -> impl Parser<&'a [u8], Output = O, Error = Error<&'a [u8]>> {
    map_opt(cond(allowed, parser), |output| output)
}

fn spaces<'a>(allowed: bool) -> impl Parser<&'a [u8], Output = &'a [u8], Error = Error<&'a [u8]>> {
    take_while(move |byte| allowed && byte == b' ')
}

fn end(input: &[u8], rules: Rules) -> IResult<&[u8], ()> {
    let options = rules.options;
    let comma = (char(','), spaces(options.space_after_comma));
    value((), (opt(only_if(options.trailing_comma, comma)), eof)).parse(input)
}

fn comma(input: &[u8], rules: Rules) -> IResult<&[u8], ()> {
    value((), (char(','), spaces(rules.options.space_after_comma))).parse(input)
}

fn address(input: &[u8], between_blocks: bool, rules: Rules) -> IResult<&[u8], u64> {
    let digits = take_while_m_n(1, 8, |byte: u8| byte.is_ascii_hexdigit());
    let hex = map_opt(digits, |digits| u64::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok());
    let more_slashes = between_blocks && rules.options.double_slash;
    let slashes = (char('/'), take_while(move |byte| more_slashes && byte == b'/'));
    // A comma may stand before the slash of the next block.
    let comma = (char(','), spaces(rules.options.space_after_comma));
    let comma = opt(only_if(rules.options.trailing_comma, comma));
    preceded((comma, slashes, tag("0x")), terminated(hex, char('/'))).parse(input)
}

fn number(input: &[u8]) -> IResult<&[u8], Option<u32>> {
    take_while1(|byte: u8| byte.is_ascii_digit())
        .map(|digits| core::str::from_utf8(digits).ok()?.parse().ok())
        .parse(input)
}

/// The bytes that a multiplier stands for, and the type.
fn unit_and_type(input: &[u8], rules: Rules) -> IResult<&[u8], (u32, Access)> {
    let letter = move |input| map_opt(u8, |letter| rules.access(letter)).parse(input);
    let known = alt((value(1024, char('K')), value(1024 * 1024, char('M')), value(1, one_of(" B"))));
    let unknown = value(1, verify(u8, |byte: &u8| byte.is_ascii_alphabetic() && !b"KMB".contains(byte)));
    let missing = value(1, peek(one_of("abcdefg")));
    alt((
        (known, letter),
        only_if(rules.options.unknown_multiplier, (unknown, letter)),
        only_if(rules.options.missing_multiplier, (missing, letter)),
    ))
    .parse(input)
}

fn sector(input: &[u8], rules: Rules) -> IResult<&[u8], Sector<'_>> {
    let meaning = move |input| unit_and_type(input, rules);
    let parts = (number, char('*'), number, meaning, spaces(rules.options.space_after_type));
    parts
        .map(|(count, _, size, (unit, access), _)| Sector { at: input, count, size, unit, access })
        .parse(input)
}
