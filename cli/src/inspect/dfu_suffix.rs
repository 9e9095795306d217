//! Kind `dfu-suffix`: firmware with a DFU suffix.

use super::Scan;
use super::report::{Fields, Problem, SuffixFields};
use serde::Serialize;
use spark_dfu::file::prefix::{LMDFU_LEN, LPC_LEN, Prefix as Known};
use spark_dfu::file::suffix::{SIGNATURE, Suffix, SuffixDigest, SuffixError};

#[derive(Debug, Serialize)]
pub(super) struct DfuSuffix {
    #[serde(flatten)]
    pub(super) suffix: SuffixFields,
    /// Bytes between prefix and suffix.
    pub(super) payload_len: u64,
    pub(super) prefix: Option<Prefix>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum Prefix {
    Lmdfu { length: usize, address: u32 },
    Lpc { length: usize, blocks: u16, canonical: bool },
}

pub(super) fn explain(scan: &Scan) -> (Vec<Problem>, Fields) {
    let content_len = content_len(&scan.suffix);
    let prefix = prefix(scan, content_len);
    let prefix_len = match prefix {
        None => 0,
        Some(Prefix::Lmdfu { length, .. } | Prefix::Lpc { length, .. }) => length as u64,
    };
    let payload_len = content_len.saturating_sub(prefix_len);
    let suffix = suffix_fields(&scan.suffix);
    (
        suffix_problem(&scan.suffix).into_iter().collect(),
        Fields::DfuSuffix(DfuSuffix { suffix, payload_len, prefix }),
    )
}

/// Whether the file begins with a prefix that is hardly there by accident.
pub(super) fn has_sure_prefix(scan: &Scan) -> bool {
    match prefix(scan, content_len(&scan.suffix)) {
        None => false,
        Some(Prefix::Lmdfu { .. }) => true,
        Some(Prefix::Lpc { canonical, .. }) => canonical,
    }
}

/// What the last bytes say, if they have the signature of a suffix.
pub(super) fn suffix_fields(digest: &SuffixDigest) -> SuffixFields {
    let Some(raw) = digest.raw().filter(|raw| raw.signature() == SIGNATURE) else {
        return SuffixFields::default();
    };
    let Suffix { bcd_device, id_product, id_vendor, bcd_dfu } = raw.suffix();
    SuffixFields {
        bcd_device: Some(bcd_device),
        id_product: Some(id_product),
        id_vendor: Some(id_vendor),
        bcd_dfu: Some(bcd_dfu),
        length: Some(raw.length()),
        crc: Some(raw.crc()),
    }
}

pub(super) fn suffix_problem(digest: &SuffixDigest) -> Option<Problem> {
    let error = digest.finish().err()?;
    let before_end = |bytes: u64| digest.file_len().checked_sub(bytes);
    let (code, offset) = match error {
        SuffixError::TooShort { .. } => ("too-short", None),
        SuffixError::BadSignature { .. } => ("bad-signature", before_end(8)),
        SuffixError::BadLength { .. } => ("bad-length", before_end(5)),
        SuffixError::BadCrc { .. } => ("bad-crc", before_end(4)),
        _ => ("bad-suffix", None),
    };
    Some(Problem::new(code, error, offset))
}

/// Bytes before the suffix. A damaged suffix counts as one; a file without has nothing but content.
fn content_len(digest: &SuffixDigest) -> u64 {
    let file_len = digest.file_len();
    let length = match (digest.finish(), digest.raw()) {
        (Ok(found), _) => found.length,
        (Err(error), Some(raw)) if error.is_damage() => match raw.length() {
            length @ 16.. if u64::from(length) <= file_len => length,
            _ => 16,
        },
        _ => 0,
    };
    file_len.saturating_sub(length.into())
}

fn prefix(scan: &Scan, content_len: u64) -> Option<Prefix> {
    let len = usize::try_from(content_len).map_or(LPC_LEN, |len| len.min(LPC_LEN));
    let head = scan.head.get(..len)?;
    match Known::recognise(head, content_len).ok()? {
        Known::Lmdfu { address } => Some(Prefix::Lmdfu { length: LMDFU_LEN, address }),
        Known::Lpc => {
            let &[_, _, low, high, ..] = head else { return None };
            let mut bytes = [0; LPC_LEN];
            let payload_len = usize::try_from(content_len.saturating_sub(LPC_LEN as u64)).ok()?;
            let canonical = Known::Lpc.encode_into(payload_len, &mut bytes).is_ok_and(|bytes| bytes == head);
            Some(Prefix::Lpc { length: LPC_LEN, blocks: u16::from_le_bytes([low, high]), canonical })
        }
        _ => None,
    }
}
