//! `spark keys convert`.

use super::check_file::scratch;
use super::files::exists;
use super::read_key;
use super::secret::to_pem;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::ui;
use serde_json::json;
use spark_keys::{Key, KeyForm, load};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Write a key in another form. It comes out canonical, whatever padding or needless zeros it had.
///
/// The input may be PEM or DER of any form, or what was read from a device. Without --to it gets the form that devices
/// take: PKCS#1 for RSA, SEC1 for EC, SubjectPublicKeyInfo for public keys.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The key.
    input: PathBuf,
    /// The new file; `-` writes to standard output. A name that ends in `.pem` gets text, any other DER.
    output: PathBuf,
    /// The new form. A private key can be written in the public forms, too.
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
        Failure::new(code, format_args!("{}: {}", args.input.display(), chain(error)), next)
    };
    let loaded = load::load(&content, &mut scratch).map_err(|error| {
        bad(
            Code::Data,
            &error,
            &format!("`spark keys check {}` shows all that is wrong", args.input.display()),
        )
    })?;
    let form = args.to.map_or_else(|| of_device(&loaded.key), |form| form.of(&loaded.key));
    let mut der = Zeroizing::new([0; load::MAX_DER]);
    let der = loaded
        .key
        .encode_into(form, &mut *der)
        .map_err(|error| bad(Code::Usage, &error, "choose another form with --to"))?;
    let text = args.pem || !args.der && !args.field && (to_stdout || has_pem_name(&args.output));
    let mut bytes = if text {
        Zeroizing::new(to_pem(form, der)?.as_bytes().to_vec())
    } else {
        Zeroizing::new(der.to_vec())
    };
    if args.field {
        let len = match loaded.key {
            Key::RsaPrivate(_) => spark_keys::device_key::FIELD_LEN,
            Key::EcPrivate(_) => spark_keys::ec::EC_FIELD_LEN,
            _ => return Err(Failure::new(Code::Usage, "--field is for private keys", "leave it out")),
        };
        if bytes.len() > len {
            return Err(Failure::new(
                Code::Data,
                format_args!("the key has {} bytes, the device's place {len}", bytes.len()),
                "give the key of a device",
            ));
        }
        bytes.resize(len, 0xFF);
    }
    if to_stdout {
        return ui::write(&bytes);
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
            "fingerprint": fingerprint,
        }));
    }
    let encoding = if text { "PEM" } else { "DER" };
    ui::print(format_args!("{}: {} as {encoding}, {} bytes", args.output.display(), form.name(), bytes.len()))
}

fn has_pem_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pem"))
}
