//! Values as they are shown, and assignments as they are typed.

use crate::exit::{Code, Failure, chain};
use crate::files;
use core::cmp::Reverse;
use serde_json::{Value as Json, json};
use spark_dct::segment::KeyAlgorithm;
use spark_dct::server_address::{Deviation, LEN, deviations};
use spark_dct::value::{Content, Value};
use spark_dct::{App, AppMut, Entry, Field, FirmwareVersion, Kind, ServerAddress};
use spark_keys::KeyForm;
use std::path::Path;
use zeroize::Zeroizing;

/// The entry of that name.
pub(super) fn entry(name: &str) -> Result<Entry, Failure> {
    Entry::by_name(name).ok_or_else(|| {
        let field = name.split('.').next().unwrap_or_default();
        let next = match Field::by_name(field) {
            Some(field) => {
                let parts: Vec<_> = Entry::parts(field).map(|part| part.to_string()).collect();
                if parts.is_empty() {
                    format!("{} has no parts", field.name())
                } else {
                    format!("its parts are {}", parts.join(", "))
                }
            }
            None => "`spark dct show --all` lists all names".to_owned(),
        };
        Failure::new(Code::Usage, format_args!("there is no field {name}"), next)
    })
}

/// Refuses entries that a release does not have.
pub(super) fn check_release(
    assignments: &[Assignment],
    version: FirmwareVersion,
    next: &str,
) -> Result<(), Failure> {
    for assignment in assignments {
        let entry = assignment.entry()?;
        let with = entry.next_in(version);
        if with != version {
            let verb = if with == entry.since() { "came with" } else { "was left out until" };
            let what = format_args!("firmware {version} does not have {entry}, which {verb} {with}");
            return Err(Failure::new(Code::Usage, what, next));
        }
    }
    Ok(())
}

/// Whether a value is shown only if asked for: it is a secret by its place, or a private key where none belongs.
pub(crate) fn is_hidden(app: App<'_>, entry: Entry) -> bool {
    let bytes = |place: Entry| app.entry_bytes(place).unwrap_or_default();
    let whole = Entry::of(entry.field());
    // A key in a field is spread over the parts of it, and one in a part is shown with the field.
    let parts = Entry::parts(entry.field()).filter(|_| entry == whole);
    entry.is_secret() || parts.chain([whole, entry]).any(|place| is_private_key(bytes(place)))
}

/// Wherever it begins, and if its first bytes are damaged: those that say what it is are enough.
fn is_private_key(bytes: &[u8]) -> bool {
    const LABEL: &[u8] = b"PRIVATE KEY";
    let is_label = |text: &[u8]| text.windows(LABEL.len()).any(|window| window == LABEL);
    let starts = (0..bytes.len()).filter_map(|start| bytes.get(start..));
    starts.clone().any(|rest| KeyForm::of(rest).is_some_and(KeyForm::is_private))
        // version and modulus of PKCS#1, version and number of SEC1
        || starts.clone().any(|rest| matches!(rest, [2, 1, 0, 2, 0x81 | 0x82, ..] | [2, 1, 1, 4, 32, ..]))
        || is_label(bytes)
        // two bytes for each character
        || [0, 1].iter().any(|skip| {
            is_label(&Zeroizing::new(bytes.iter().copied().skip(*skip).step_by(2).collect::<Vec<_>>()))
        })
}

/// The text of a value; secrets only if asked for.
pub(super) fn text(app: App<'_>, entry: Entry, secrets: bool) -> String {
    let value = app.value(entry);
    match secrets {
        true => value.to_string(),
        false if is_there(&value) && !entry.is_secret() && is_hidden(app, entry) => {
            format!("hidden, {} bytes with a private key", entry.len())
        }
        false => value.hidden().to_string(),
    }
}

/// Whether something is there, perhaps the rest of a value that was cleared: it may be a secret as well.
pub(super) fn is_there(value: &Value<'_>) -> bool {
    value.is_set() || matches!(value.content(), Content::Cleared(_))
}

/// What is odd about a server address that can be read.
pub(crate) fn oddities(app: App<'_>, entry: Entry) -> Vec<Deviation> {
    let block = app.entry_bytes(entry).and_then(<[u8]>::first_chunk);
    block.filter(|_| entry.kind() == Kind::Address).map_or_else(Vec::new, oddities_of)
}

/// As [`oddities`], of a block. Zeros are none, and a 00 behind a name is in every factory image.
pub(crate) fn oddities_of(block: &[u8; LEN]) -> Vec<Deviation> {
    let is_read = ServerAddress::parse(block).is_ok_and(|address| address.is_some());
    let odd = deviations(block).filter(|found| *found != Deviation::Terminator);
    if is_read && block.iter().any(|byte| *byte != 0) { odd.collect() } else { Vec::new() }
}

/// One entry for machines.
pub(super) fn to_json(app: App<'_>, entry: Entry, secrets: bool) -> Json {
    let value = app.value(entry);
    let secret = is_hidden(app, entry);
    let hidden = secret && !secrets && is_there(&value);
    let remarks: Vec<_> = oddities(app, entry).iter().map(Deviation::to_string).collect();
    json!({
        "name": entry.to_string(),
        "offset": entry.offset(),
        "length": entry.len(),
        "type": entry.kind().word(),
        "since": entry.since().to_string(),
        "set": value.is_set(),
        "malformed": value.is_malformed(),
        "secret": secret,
        "value": (value.is_set() && !hidden).then(|| value.to_string()),
        "remarks": remarks,
    })
}

/// What was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Applied {
    /// All bytes of the entries.
    Whole,
    /// Of one of them the server's key alone: the address behind it stays.
    BareServerKey,
}

/// `NAME=VALUE`, or `NAME=@FILE` for the bytes of a file.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    name: String,
    value: String,
}

impl core::str::FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE or NAME=@FILE")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl Assignment {
    pub(super) fn entry(&self) -> Result<Entry, Failure> {
        entry(&self.name)
    }

    /// Changes the bytes of the entry, which hold their present content.
    fn apply(&self, bytes: &mut [u8]) -> Result<Applied, Failure> {
        let entry = self.entry()?;
        let Some(path) = self.value.strip_prefix('@') else {
            return entry.write_text(&self.value, bytes).map(|()| Applied::Whole).map_err(|error| {
                let next = "`spark dct show --all` shows values as they are to be typed; `unset` erases";
                Failure::new(Code::Usage, chain(&error), next)
            });
        };
        let content = content_for(entry, Path::new(path))?;
        // A file that ends before the place of the address is a key and nothing else.
        let address_at = KeyAlgorithm::Rsa.server_address_at();
        let is_bare = entry == Entry::of(Field::SERVER_PUBLIC_KEY) && content.len() <= address_at;
        let changed = if is_bare { address_at } else { bytes.len() };
        bytes.iter_mut().take(changed).for_each(|byte| *byte = 0xFF);
        bytes.iter_mut().zip(content.iter()).for_each(|(slot, byte)| *slot = *byte);
        Ok(if is_bare { Applied::BareServerKey } else { Applied::Whole })
    }
}

/// The bytes of a file for an entry, which are not more than it has.
pub(super) fn content_for(entry: Entry, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let content = files::read_up_to(path, entry.len() as u64).map_err(|failure| match failure.code() {
        Code::Data => Failure::new(
            Code::Data,
            format_args!("{} has more than the {} bytes that {entry} takes", path.display(), entry.len()),
            "check the form of the file; for keys, `spark keys convert --field` makes it",
        ),
        _ => failure,
    })?;
    Ok(Zeroizing::new(content))
}

/// Applies assignments to an image, in whatever order they are given: what has parts first, then these.
pub(super) fn apply(assignments: &[Assignment], image: &mut [u8]) -> Result<Applied, Failure> {
    let mut ordered = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        let entry = assignment.entry()?;
        if ordered.iter().any(|(known, _)| *known == entry) {
            return Err(Failure::new(Code::Usage, format_args!("{entry} is given twice"), "give it once"));
        }
        ordered.push((entry, assignment));
    }
    // A switch has the place of its integer.
    ordered.sort_by_key(|(entry, _)| (Reverse(entry.len()), entry.to_string().matches('.').count()));
    let mut applied = Applied::Whole;
    for (entry, assignment) in ordered {
        // The first bytes of a newer field may be there as well, and are something else.
        let is_whole = entry.field().end() <= image.len();
        let bytes = image.get_mut(entry.range()).filter(|_| is_whole).ok_or_else(|| {
            Failure::new(
                Code::Usage,
                format_args!("{entry} came with {}, and the image is of older firmware", entry.since()),
                "use an image of newer firmware",
            )
        })?;
        if assignment.apply(bytes)? == Applied::BareServerKey {
            applied = Applied::BareServerKey;
        }
    }
    // The length was right before and did not change.
    let _ = AppMut::new(image);
    Ok(applied)
}
