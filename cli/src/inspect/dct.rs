//! Kinds `dct-app` and `dct-flash`: the Device Configuration Table.

use super::Scan;
use super::report::{Fields, Problem};
use crate::dct::image::{self, PAIR};
use crate::dct::judge::{self, Past, address, report};
use crate::dct::value::{is_hidden, oddities};
use crate::exit::chain;
use core::fmt;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use spark_dct::flash::SectorId;
use spark_dct::recovery::{Confidence, Dump, Format, Judgement, Options, Standing, Target};
use spark_dct::value::Content;
use spark_dct::{App, Entry, Field, FirmwareVersion, Kind, app};

/// A whole flash, and where the sectors are in it.
const FLASH: u64 = 0x10_0000;
const PAIR_AT: usize = 0x4000;

#[derive(Debug, Serialize)]
pub(super) struct DctApp {
    length: u64,
    /// What is set, by name; secrets are `null`.
    fields: Map<String, Json>,
    /// What is odd without being wrong.
    remarks: Vec<Problem>,
}

#[derive(Debug, Serialize)]
pub(super) struct DctFlash {
    /// Where the sectors begin in the file.
    sectors_at: usize,
    sectors: Vec<Sector>,
    selections: Vec<Selection>,
    /// The firmware whose marks are there.
    firmware: Option<String>,
    /// What that firmware reads, by name; secrets are `null`.
    fields: Map<String, Json>,
    /// What is odd without being wrong.
    remarks: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Sector {
    sector: &'static str,
    format: Option<Format>,
    standing: String,
    crc_ok: bool,
    newer: bool,
}

#[derive(Debug, Serialize)]
struct Selection {
    firmware: String,
    sector: Option<&'static str>,
    reason: String,
}

/// Whether the file looks like an application section.
pub(super) fn looks_like_app(scan: &Scan) -> bool {
    let in_range = (app::LEN_OLD as u64..=app::MAX_LEN as u64).contains(&scan.len());
    let at =
        |offset: usize, bytes: &[u8]| scan.head.get(offset..).is_some_and(|rest| rest.starts_with(bytes));
    let erased_or = |offset, bytes: &[u8]| at(offset, bytes) || at(offset, &[0xFF, 0xFF, 0xFF, 0xFF]);
    let flags = at(0, &[0xC0, 0xAC, 0xDE, 0x1A]) || at(0, &[0xC0, 0xFF, 0xFF, 0xFF]);
    let (private, public) = (Field::DEVICE_PRIVATE_KEY.offset(), Field::SERVER_PUBLIC_KEY.offset());
    let keys = at(private, &[0x30, 0x82, 0x02]) || at(public, &[0x30, 0x82, 0x01, 0x22]);
    let (private, server) = (Field::ALT_DEVICE_PRIVATE_KEY.offset(), Field::ALT_SERVER_PUBLIC_KEY.offset());
    let ec_keys =
        at(private, &[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20]) || at(server, &[0x30, 0x59, 0x30, 0x13]);
    // Flags or a key where they belong, and nothing else where the other belongs.
    let marked = flags && erased_or(public, &[0x30, 0x82]) || (keys || ec_keys) && erased_or(0, &[0xC0]);
    in_range && (marked || scan.whole().is_some_and(is_plain_table))
}

/// Whether bytes have the length of a table, something in its fields, and nothing that no field would have.
fn is_plain_table(bytes: &[u8]) -> bool {
    let lengths = [app::LEN_OLD, app::LEN_OLD + 2, app::LEN];
    let Some(app) = App::new(bytes).ok().filter(|_| lengths.contains(&bytes.len())) else { return false };
    let is = |bytes: &[u8], fill: u8| bytes.iter().all(|byte| *byte == fill);
    let is_blank = |bytes: &[u8]| is(bytes, 0xFF) || is(bytes, 0x00);
    let gaps = Field::ALL.iter().filter(|field| field.is_gap());
    let keys = [
        Field::DEVICE_PRIVATE_KEY,
        Field::DEVICE_PUBLIC_KEY,
        Field::SERVER_PUBLIC_KEY,
        Field::ALT_DEVICE_PRIVATE_KEY,
        Field::ALT_SERVER_PUBLIC_KEY,
    ];
    let is_key = |field: Field| match app.bytes(field) {
        // Text is wrong there, and yet a key.
        [0x30, ..] | [b'-', b'-', b'-', b'-', b'-', ..] => true,
        bytes => is_blank(bytes.get(..128).unwrap_or(bytes)),
    };
    gaps.map(|field| app.bytes(*field)).all(is_blank)
        && keys.into_iter().all(is_key)
        && !Entry::leaves().any(|entry| app.value(entry).is_malformed())
        && !is(bytes, 0xFF)
}

/// Whether the file is as long as both sectors or the whole flash, and has the mark of a table in one of them; or is one sector
/// with such a mark.
pub(super) fn looks_like_flash(scan: &Scan) -> bool {
    let one = scan.len() == PAIR as u64 / 2 && image::is_raw_sector(&scan.head);
    one || pair(scan).is_some_and(|(_, pair)| {
        Dump::from_slice(pair).is_ok_and(|dump| {
            [SectorId::Dct1, SectorId::Dct2].iter().any(|id| dump.candidate(*id).format.is_some())
        })
    })
}

fn pair(scan: &Scan) -> Option<(usize, &[u8])> {
    let at = if scan.len() == PAIR as u64 { 0 } else { PAIR_AT };
    let is_right_length = scan.len() == PAIR as u64 || scan.len() == FLASH;
    scan.head.get(at..at + PAIR).filter(|_| is_right_length).map(|pair| (at, pair))
}

pub(super) fn explain_app(scan: &Scan) -> (Vec<Problem>, Fields) {
    let mut table = DctApp { length: scan.len(), fields: Map::new(), remarks: Vec::new() };
    let found = match App::new(&scan.head) {
        Ok(_) if image::is_raw_sector(&scan.head) => {
            let message = "a sector of the flash as it is; the application section is a part of it";
            vec![Problem::new("raw-sector", message, None)]
        }
        Ok(app) => {
            table.fields = values(app);
            table.remarks = remarks(app, 0);
            problems(app, Past::of_app(app), 0)
        }
        Err(error) => vec![Problem::new("bad-length", error, None)],
    };
    (found, Fields::DctApp(table))
}

fn values(app: App<'_>) -> Map<String, Json> {
    let set = Entry::leaves()
        .map(|entry| app.value(entry))
        .filter(|value| value.is_set() && !value.entry().field().is_gap());
    set.map(|value| {
        let entry = value.entry();
        (entry.to_string(), if is_hidden(app, entry) { Json::Null } else { value.to_string().into() })
    })
    .collect()
}

/// Addresses that can be read, and are not as any good tool writes them.
fn remarks(app: App<'_>, base: usize) -> Vec<Problem> {
    let odd = |entry: Entry| oddities(app, entry).into_iter().map(move |oddity| (entry, oddity));
    Entry::leaves()
        .flat_map(odd)
        .map(|(entry, oddity)| {
            let offset = u64::try_from(base + entry.offset()).ok();
            Problem::new(oddity.code(), format_args!("{entry}: {oddity}"), offset)
        })
        .collect()
}

/// Keys that do not work or are lost, and values that are none.
fn problems(app: App<'_>, past: Past, base: usize) -> Vec<Problem> {
    let mut found = Vec::new();
    let offset = |at: usize| u64::try_from(base + at).ok();
    for field in Field::ALL {
        let bytes = app.bytes(*field);
        if past.judge(*field, bytes) == Judgement::Invalid {
            let before = found.len();
            if let Some(finding) = report(*field, bytes).and_then(|report| report.findings().next()) {
                let message = format_args!("{}: {finding}", field.name());
                found.push(Problem::new(finding.code(), message, offset(field.offset())));
            }
            // The address is a part of one field, and all of another one.
            let mut entries = Entry::parts(*field).chain([Entry::of(*field)]);
            if let (Some(Err(error)), Some(entry)) =
                (address(*field, bytes), entries.find(|entry| entry.kind() == Kind::Address))
            {
                let message = format_args!("{entry}: {}", chain(&error));
                found.push(Problem::new("bad-address", message, offset(entry.offset())));
            }
            if found.len() == before {
                let message = format_args!("{}: the value is damaged", field.name());
                found.push(Problem::new("damaged-value", message, offset(field.offset())));
            }
        }
    }
    // Only v0.4.0 to v0.4.4 have two bytes of padding at the end.
    let oldest = app.as_bytes().len() == app::LEN_OLD + 2;
    let known = |entry: &Entry| !oldest || entry.exists_in(FirmwareVersion::new(0, 4, 4));
    for entry in Entry::leaves().filter(known) {
        let value = app.value(entry);
        // Zeros mean "not set" to firmware as well.
        let zero = matches!(value.content(), Content::Raw(bytes) if bytes.iter().all(|byte| *byte == 0));
        let places = [entry.offset(), entry.field().offset()].map(offset);
        // What is no address beside a key is among the keys' problems.
        if value.is_malformed() && !zero && !found.iter().any(|problem| places.contains(&problem.offset)) {
            let message = format_args!("{entry}: the bytes are no {}", entry.kind().word());
            found.push(Problem::new("malformed-value", message, offset(entry.offset())));
        }
    }
    found
}

pub(super) fn explain_flash(scan: &Scan) -> (Vec<Problem>, Fields) {
    let mut fields = DctFlash {
        sectors_at: 0,
        sectors: Vec::new(),
        selections: Vec::new(),
        firmware: None,
        fields: Map::new(),
        remarks: Vec::new(),
    };
    let Some((at, pair)) = pair(scan) else {
        let message = "two sectors have 32768 bytes from 08004000, a whole flash has 1 MiB; one sector does not tell which is current";
        return (vec![Problem::new("bad-length", message, None)], Fields::DctFlash(fields));
    };
    fields.sectors_at = at;
    let found = match Dump::from_slice(pair) {
        Ok(dump) => look_into(dump, at, &mut fields),
        Err(error) => vec![Problem::new("bad-length", error, None)],
    };
    (found, Fields::DctFlash(fields))
}

fn look_into(dump: Dump<'_>, at: usize, fields: &mut DctFlash) -> Vec<Problem> {
    let mut found = Vec::new();
    let newer = dump.newer();
    for id in [SectorId::Dct1, SectorId::Dct2] {
        let candidate = dump.candidate(id);
        let offset = u64::try_from(at + id.index() * PAIR / 2).ok();
        let code = match candidate.standing {
            Standing::CrcBad { .. } => Some("bad-crc"),
            Standing::PartlyErased => Some("partly-erased"),
            Standing::MarkDamaged => Some("damaged-mark"),
            _ => None,
        };
        if let Some(code) = code {
            let message = format_args!("{}: {}", image::name(id), candidate.standing);
            found.push(Problem::new(code, message, offset));
        }
        fields.sectors.push(Sector {
            sector: image::name(id),
            format: candidate.format,
            standing: candidate.standing.to_string(),
            crc_ok: candidate.standing.is_crc_good(),
            newer: newer == Some(id),
        });
    }
    let Some(target) = image::target_by_marks(&dump) else {
        found.push(Problem::new("no-table", "neither sector has the mark of a table", None));
        return found;
    };
    fields.firmware = Some(target.to_string());
    let of_same_container =
        |other: &Target| core::mem::discriminant(other) == core::mem::discriminant(&target);
    for target in Target::ALL.into_iter().filter(of_same_container) {
        let selection = dump.select(target);
        fields.selections.push(Selection {
            firmware: target.to_string(),
            sector: selection.sector.map(image::name),
            reason: selection.reason.to_string(),
        });
    }
    let selection = dump.select(target);
    match selection.sector.map(|id| dump.candidate(id)).map(|candidate| (candidate, App::new(candidate.app)))
    {
        Some((candidate, Ok(app))) => {
            let base = at + candidate.id.index() * PAIR / 2 + PAIR / 2 - candidate.app.len();
            found.extend(problems(app, Past::of_dump(&dump, target), base));
            fields.fields = values(app);
            fields.remarks = remarks(app, base);
        }
        _ => {
            found.push(Problem::new("no-valid-sector", format_args!("{target}: {}", selection.reason), None))
        }
    }
    found.extend(damaged(dump, target, &found));
    found
}

/// Fields that look damaged against the other sector.
fn damaged(dump: Dump<'_>, target: Target, known: &[Problem]) -> Vec<Problem> {
    let Ok(plan) = judge::plan(dump, target, Options::default()) else { return Vec::new() };
    let decisions = plan
        .decisions()
        .iter()
        .filter(|decision| decision.confidence == Confidence::Damaged && !decision.field.is_gap());
    decisions
        .filter(|decision| !known.iter().any(|problem| problem.names(decision.field.name())))
        .map(|decision| Problem::new("damaged-field", decision, None))
        .collect()
}

impl fmt::Display for DctApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  length    {} bytes\n  set       {} values; `spark dct show` lists them",
            self.length,
            self.fields.len()
        )?;
        self.remarks.iter().try_for_each(|remark| write!(f, "\n  remark    {remark}"))
    }
}

impl fmt::Display for DctFlash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sector in &self.sectors {
            let age = if sector.newer { ", the newer one" } else { "" };
            writeln!(f, "  {}      {}{age}", sector.sector, sector.standing)?;
        }
        for Selection { firmware, sector, reason } in &self.selections {
            writeln!(
                f,
                "  {firmware}: {}{reason}",
                sector.map(|sector| format!("{sector}, ")).unwrap_or_default()
            )?;
        }
        write!(
            f,
            "  set       {} values; `spark dct show` lists them, `spark dct recover` repairs",
            self.fields.len()
        )?;
        self.remarks.iter().try_for_each(|remark| write!(f, "\n  remark    {remark}"))
    }
}
