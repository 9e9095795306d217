//! `spark keys convert`.

use super::check::judge;
use super::files::exists;
use super::place::scratch;
use super::protocol::Protocol;
use super::secret::{Secret, to_pem};
use super::{argument, read_key, shown};
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui;
use serde_json::json;
use spark_keys::{DeviceKey, Key, KeyForm, RsaPrivateKeyView, load};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Write a key in another form: for a device, or canonical for other programs.
///
/// The input may be PEM or DER of any form, or what was read from a device. Without --to it gets the form that devices
/// take: PKCS#1 for RSA, SEC1 for EC, SubjectPublicKeyInfo for public keys. A private key of a device is then written with the
/// bytes that `load` writes, with its numbers at full length if the device misreads the canonical ones, and refused if no device
/// can use it. Text, and what --to asks for, comes out canonical, whatever padding or needless zeros it had.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The key.
    input: PathBuf,
    /// The new file; `-` writes to standard output. A name that ends in `.pem` gets text, any other DER.
    output: PathBuf,
    /// The new form, for other programs; it is said if no device can use the file as it is. A private key can be written in
    /// the public forms, too.
    #[arg(long, value_name = "FORM")]
    to: Option<Form>,
    /// Write text.
    #[arg(long)]
    pem: bool,
    /// Write DER.
    #[arg(long, conflicts_with = "pem")]
    der: bool,
    /// Write the device's whole place: DER, then FF.
    #[arg(long, conflicts_with_all = ["pem", "to"])]
    field: bool,
    /// Overwrite the file.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON on standard output, and nothing else.
    #[arg(long)]
    json: bool,
}

/// The forms of keys.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// RSA private key, as devices take it.
    Pkcs1,
    /// Private key, as OpenSSL 3 makes it.
    Pkcs8,
    /// EC private key, as devices take it.
    Sec1,
    /// Public key.
    Spki,
    /// RSA public key, old form.
    Pkcs1Public,
}

impl Form {
    const fn of(self, key: &Key<'_>) -> KeyForm {
        let ec = matches!(key, Key::EcPrivate(_) | Key::EcPublic(_));
        match self {
            Self::Pkcs1 => KeyForm::Pkcs1Private,
            Self::Pkcs8 if ec => KeyForm::Pkcs8Ec,
            Self::Pkcs8 => KeyForm::Pkcs8Private,
            Self::Sec1 => KeyForm::Sec1Ec,
            Self::Spki if ec => KeyForm::SpkiEc,
            Self::Spki => KeyForm::SpkiRsa,
            Self::Pkcs1Public => KeyForm::Pkcs1Public,
        }
    }
}

const fn of_device(key: &Key<'_>) -> KeyForm {
    match key {
        Key::RsaPrivate(_) => KeyForm::Pkcs1Private,
        Key::EcPrivate(_) => KeyForm::Sec1Ec,
        Key::RsaPublic(_) => KeyForm::SpkiRsa,
        Key::EcPublic(_) => KeyForm::SpkiEc,
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && args.json {
        return Err(Failure::new(
            Code::Usage,
            "--json and the key both go to standard output",
            "name a file",
        ));
    }
    if !to_stdout && args.output.exists() && !args.force {
        return Err(exists(&args.output));
    }
    let content = read_key(&args.input)?;
    let mut scratch = scratch(&content);
    let bad = |code, error: &dyn core::error::Error, next: &str| {
        Failure::new(code, format_args!("{}: {}", shown(&args.input), chain(error)), next)
    };
    let loaded = load::load(&content, &mut scratch).map_err(|error| {
        bad(
            Code::Data,
            &error,
            &format!("`spark keys check {}` shows all that is wrong", argument(&args.input)),
        )
    })?;
    let form = args.to.map_or_else(|| of_device(&loaded.key), |form| form.of(&loaded.key));
    let text = args.pem || !args.der && !args.field && (to_stdout || has_pem_name(&args.output));
    if args.field && !loaded.key.is_private() {
        return Err(Failure::new(Code::Usage, "--field is for private keys", "leave it out"));
    }
    let bytes = match (&loaded.key, args.to) {
        // A server's key goes to no device.
        (key, None) if key.is_private() && !text && (args.field || key.bits() < 2048) => {
            for_device(args, &loaded.key)?
        }
        _ => {
            let mut der = Zeroizing::new([0; load::MAX_DER]);
            let der = loaded
                .key
                .encode_into(form, &mut *der)
                .map_err(|error| bad(Code::Usage, &error, "choose another form with --to"))?;
            match text {
                true => Zeroizing::new(to_pem(form, der)?.as_bytes().to_vec()),
                false => Zeroizing::new(der.to_vec()),
            }
        }
    };
    let warning = match (&loaded.key, form) {
        (Key::RsaPrivate(key), KeyForm::Pkcs1Private) if !text => misread(key, &bytes),
        _ => None,
    };
    if to_stdout {
        ui::write(&bytes)?;
        warn(warning.as_deref());
        return Ok(());
    }
    if loaded.key.is_private() && !matches!(form, KeyForm::SpkiRsa | KeyForm::SpkiEc | KeyForm::Pkcs1Public) {
        files::write_secret(&args.output, &bytes)?;
    } else {
        files::write_atomically(&args.output, &bytes)?;
    }
    let fingerprint = loaded.key.fingerprint().map(|fingerprint| fingerprint.to_string());
    if args.json {
        return ui::print(json!({
            "file": args.output, "form": form.name(), "pem": text, "bytes": bytes.len(),
            "from": loaded.form.name(), "algorithm": loaded.key.algorithm(), "bits": loaded.key.bits(),
            "fingerprint": fingerprint, "warning": warning,
        }));
    }
    warn(warning.as_deref());
    let encoding = if text { "PEM" } else { "DER" };
    ui::print(format_args!("{}: {} as {encoding}, {} bytes", args.output.display(), form.name(), bytes.len()))
}

/// What `load` writes into a device.
fn for_device(args: &Args, key: &Key<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let refused = |error: &dyn core::error::Error| {
        let next = match args.field {
            true => "give the key of a device; `spark keys new` makes one",
            false => "give the key of a device, or choose a form for other programs with --to",
        };
        Failure::new(Code::Data, format_args!("{}: {}", shown(&args.input), chain(error)), next)
    };
    let secret = Secret::of_key(key).transpose().map_err(|error| refused(&error))?;
    let secret =
        secret.ok_or_else(|| Failure::new(Code::Usage, "this is a public key", "choose a form with --to"))?;
    let bytes = if args.field { secret.field() } else { secret.der() };
    Ok(Zeroizing::new(bytes.to_vec()))
}

/// Why no device can use a file that looks as if one could.
fn misread(key: &RsaPrivateKeyView<'_>, der: &[u8]) -> Option<String> {
    if key.public_key().bits() != 1024 || judge(Protocol::Tcp, der, None).1 {
        return None;
    }
    Some(match DeviceKey::from_view(key) {
        Ok(_) => "no device can use this file as it is, because a number of the key is too short: leave --to out for a device"
            .to_owned(),
        Err(error) => format!("no device can use this file: {}", chain(&error)),
    })
}

fn warn(warning: Option<&str>) {
    if let Some(warning) = warning {
        ui::say(format_args!("warning: {warning}"));
    }
}

fn has_pem_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pem"))
}
