//! Kind `memory-layout`: the text that a DfuSe device gives each alternate setting.

use super::report::{Fields, Problem};
use super::{HEAD_LIMIT, Scan};
use crate::files::hex;
use serde::Serialize;
use spark_dfu::layout::{LayoutError, MemoryLayout, ParseOptions};

#[derive(Debug, Serialize)]
pub(super) struct Layout {
    pub(super) name: Option<String>,
    /// The name's bytes if they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
    pub(super) segments: Vec<Segment>,
    /// What follows the last segment and is none.
    trailing_hex: String,
    /// Deviations from the grammar that devices are known for; a text with them is valid.
    pub(super) deviations: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Segment {
    pub(super) start: u32,
    /// The first address after it.
    pub(super) end: u64,
    pub(super) page_size: u32,
    pub(super) pages: u32,
    /// `a` to `g`.
    #[serde(rename = "type")]
    letter: char,
    pub(super) readable: bool,
    pub(super) erasable: bool,
    pub(super) writeable: bool,
}

type Switch = fn(&mut ParseOptions) -> &mut bool;

const DEVIATIONS: [(&str, Switch); 7] = [
    ("nul-padding", |options| &mut options.nul_padding),
    ("trailing-garbage", |options| &mut options.trailing_garbage),
    ("missing-multiplier", |options| &mut options.missing_multiplier),
    ("space-after-comma", |options| &mut options.space_after_comma),
    ("space-after-type", |options| &mut options.space_after_type),
    ("trailing-comma", |options| &mut options.trailing_comma),
    ("empty-name", |options| &mut options.empty_name),
];

pub(super) fn explain(scan: &Scan) -> (Vec<Problem>, Fields) {
    // Editors end a file with a line break.
    let text = scan.head.strip_suffix(b"\n").unwrap_or(&scan.head);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let mut problems = Vec::new();
    if scan.len() > HEAD_LIMIT as u64 {
        let message = format_args!("a memory-layout string is not longer than {HEAD_LIMIT} bytes");
        problems.push(Problem::new("too-long", message, None));
    }
    let parsed = MemoryLayout::parse(text);
    let readable = match parsed {
        Ok(layout) => Some(layout),
        Err(error) => {
            problems.push(problem(error));
            // What stands before the fault.
            let part = match error {
                LayoutError::EmptySegment { offset } | LayoutError::BeyondAddressSpace { offset } => {
                    text.get(..offset).unwrap_or(text)
                }
                _ => text,
            };
            MemoryLayout::parse_bounded(part, HEAD_LIMIT).ok()
        }
    };
    let name = name(text);
    let fields = Layout {
        name: name.map(|name| String::from_utf8_lossy(name).into_owned()),
        name_hex: name.filter(|name| core::str::from_utf8(name).is_err()).map(hex),
        segments: readable.iter().flat_map(MemoryLayout::segments).map(segment).collect(),
        trailing_hex: hex(parsed.map_or(&[], |layout| layout.trailing())),
        deviations: deviations(text),
    };
    (problems, Fields::MemoryLayout(fields))
}

fn name(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"@")?.split(|byte| *byte == b'/' || *byte == 0).next()
}

fn segment(segment: spark_dfu::layout::Segment) -> Segment {
    Segment {
        start: segment.start,
        end: segment.end(),
        page_size: segment.page_size,
        pages: segment.pages,
        letter: segment.access.letter(),
        readable: segment.access.readable(),
        erasable: segment.access.erasable(),
        writeable: segment.access.writeable(),
    }
}

/// The options without which the text would be refused or read differently.
fn deviations(text: &[u8]) -> Vec<&'static str> {
    let read =
        |options| MemoryLayout::parse_with(text, options).map(|layout| layout.segments().collect::<Vec<_>>());
    let Ok(segments) = read(ParseOptions::WILD) else { return Vec::new() };
    let needed = DEVIATIONS.iter().filter(|(_, switch)| {
        let mut options = ParseOptions::WILD;
        *switch(&mut options) = false;
        // Otherwise what one option no longer reads is garbage to the other.
        let alone = read(options) != Ok(segments.clone());
        options.trailing_garbage = false;
        let mut all = ParseOptions::WILD;
        all.trailing_garbage = false;
        alone || read(all).is_ok() && read(options).is_err()
    });
    needed.map(|(name, _)| *name).collect()
}

fn problem(error: LayoutError) -> Problem {
    let (code, offset) = match error {
        LayoutError::NoAtSign => ("no-at-sign", Some(0)),
        LayoutError::EmptyName => ("empty-name", Some(1)),
        LayoutError::NoSegment { offset } => ("no-segment", Some(offset)),
        LayoutError::TrailingGarbage { offset } => ("trailing-garbage", Some(offset)),
        LayoutError::TooManySegments { .. } => ("too-many-segments", None),
        LayoutError::EmptySegment { offset } => ("empty-segment", Some(offset)),
        LayoutError::BeyondAddressSpace { offset } => ("beyond-address-space", Some(offset)),
        _ => ("bad-layout", None),
    };
    Problem::new(code, error, offset.map(|offset| offset as u64))
}
