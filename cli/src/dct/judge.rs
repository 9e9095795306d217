//! What the key library says of the fields that hold keys.

use crate::exit::{Code, Failure};
use spark_dct::recovery::Judgement;
use spark_dct::{App, Entry, Field, ServerAddress};
use spark_keys::check;
use spark_keys::check::{PublicCache, Report, ServerKeyKind, check_ec, check_server_key};

/// What is known of a field's bytes.
pub(crate) fn judge(field: Field, bytes: &[u8]) -> Judgement {
    let all = |fill| bytes.iter().all(|byte| *byte == fill);
    // Places that this device does not use are zero in images that were compiled.
    let unused = matches!(
        field,
        Field::ALT_DEVICE_PUBLIC_KEY
            | Field::ALT_DEVICE_PRIVATE_KEY
            | Field::ALT_SERVER_PUBLIC_KEY
            | Field::ALT_SERVER_ADDRESS
    );
    if all(0xFF) || unused && all(0x00) {
        return Judgement::Unknown;
    }
    match report(field, bytes) {
        Some(report) if !report.device_works() => return Judgement::Invalid,
        Some(_) => {}
        None => return judge_rest(field, bytes),
    }
    match address(field, bytes) {
        Some(Err(_)) => Judgement::Invalid,
        _ => Judgement::Valid,
    }
}

fn judge_rest(field: Field, bytes: &[u8]) -> Judgement {
    match field {
        Field::DEVICE_PUBLIC_KEY | Field::ALT_DEVICE_PUBLIC_KEY => match PublicCache::of(bytes) {
            PublicCache::Key { .. } => Judgement::Valid,
            PublicCache::Unknown => Judgement::Invalid,
            _ => Judgement::Unknown,
        },
        Field::ALT_SERVER_ADDRESS => match bytes.first_chunk().map(ServerAddress::parse) {
            Some(Ok(Some(_))) => Judgement::Valid,
            Some(Err(_)) => Judgement::Invalid,
            _ => Judgement::Unknown,
        },
        Field::CLAIMED if bytes == b"1" => Judgement::Valid,
        _ => Judgement::Unknown,
    }
}

/// What is wrong with a key.
pub(crate) fn report(field: Field, bytes: &[u8]) -> Option<Report> {
    match field {
        Field::DEVICE_PRIVATE_KEY => Some(check(bytes.get(..612).unwrap_or(bytes))),
        Field::ALT_DEVICE_PRIVATE_KEY => Some(check_ec(bytes)),
        Field::SERVER_PUBLIC_KEY => {
            Some(check_server_key(ServerKeyKind::Rsa, bytes.get(..512).unwrap_or(bytes)))
        }
        Field::ALT_SERVER_PUBLIC_KEY => Some(check_server_key(ServerKeyKind::Ec, bytes)),
        _ => None,
    }
}

/// The address beside the server's key.
fn address(field: Field, bytes: &[u8]) -> Option<Result<(), spark_dct::server_address::AddressError>> {
    let block = match field {
        Field::SERVER_PUBLIC_KEY => bytes.get(384..)?.first_chunk()?,
        _ => return None,
    };
    Some(ServerAddress::parse(block).map(|_| ()))
}

/// Refuses a key that the device could not use. An address beside a key is another matter.
pub(super) fn must_work(entry: Entry, app: App<'_>) -> Result<(), Failure> {
    if matches!(entry.part_name(), Some(part) if part != "key") {
        return Ok(());
    }
    let (field, bytes) = (entry.field(), app.bytes(entry.field()));
    if judge(field, bytes) != Judgement::Invalid {
        return Ok(());
    }
    let why = match report(field, bytes).and_then(|report| report.findings().next()) {
        Some(finding) => finding.to_string(),
        None => "it is damaged".to_owned(),
    };
    Err(Failure::new(
        Code::Data,
        format_args!("{entry}: {why}"),
        "`spark keys` makes, converts and repairs keys; --force writes it all the same",
    ))
}
