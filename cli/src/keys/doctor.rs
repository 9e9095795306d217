//! `spark keys doctor`: a device key that works, and a cloud that knows it.
//!
//! The order, with a local cloud:
//!
//! 1. The device's key is read and checked. A key that works stays, one that can be repaired is repaired, one that an older
//!    generation of the device's table still has is taken from there, any other is replaced.
//! 2. What was there, both generations of the table, and the new key go into files.
//! 3. The cloud gets to know the key that the device has, if that one works, and the new one *beside* it
//!    ([`Folder::stage`]): from here on it takes both.
//! 4. If a host was given, the server's key and address are written, then the device's key; each is read back.
//! 5. The cloud takes the new key as the recorded one ([`Folder::accept_next`]).
//!
//! Whatever ends the program between two steps, device and cloud agree: until step 5 both keys get in, and the first
//! connection with the new one does step 5 as well. If the write fails, the device is read again: with the old key in it
//! step 3 is undone, with the new one step 5 is done, and with neither the next run starts with the key that was to be
//! written.
//!
//! Without a local cloud the public key is written into a file before the device is, for `send-ready` or by hand. The server's key
//! and address are looked at all the same.

use super::files::Names;
use super::protocol::Protocol;
use super::secret::{Finding, Public, Secret};
use super::server::{self, Region, ServerKey};
use super::{check, repair};
use crate::cloud::folder::Folder;
use crate::dfu::{Access, DeviceOptions};
use crate::exit::{Code, Failure};
use crate::files;
use crate::particle::{self, Particle, WriteOptions, Written, back_up};
use crate::ui;
use coap_spark::handshake::DeviceId;
use core::fmt;
use serde::Serialize;
use spark_dct::segment::Segment;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Make the device's key right again: check it, repair or renew it, tell the cloud, write it and read it back.
///
/// A key that works is kept unless --new is given; damage in it that the device ignores is mended. What was in the device (both
/// generations of its table, and the key), and a new key, are kept in files of the --backup folder. With --cloud the local cloud takes the old key and the new one until the new one was used, so that
/// the device is never locked out; otherwise ID-FINGERPRINT.pub.pem is what your cloud has to be given. The server's key and address
/// in the device are always looked at and only written with --cloud and --host; exit code 65 says that the device cannot connect with
/// those that it has.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The device's id, 24 hex digits; by default the one that the device tells.
    id: Option<DeviceId>,
    /// Data folder of the local cloud that has to know the key.
    #[arg(long, value_name = "DIR")]
    cloud: Option<PathBuf>,
    /// With --cloud: write the cloud's key and this address into the device, too. Without it, exit code 65 says that the
    /// device has those of another cloud.
    #[arg(long, value_name = "HOST", requires = "cloud")]
    host: Option<String>,
    /// Port of the cloud, if it is not the protocol's own.
    #[arg(long, value_name = "PORT", requires = "host", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Replace the key even if it works.
    #[arg(long)]
    new: bool,
    /// Which of the device's keys; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

/// What the doctor does about the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Remedy {
    /// It works.
    Keep,
    /// Rebuilt from its intact parts, or written in the form that the device reads: the public key stays.
    Repair,
    /// From an older generation of the device's table.
    Restore,
    /// What an earlier run was about to write.
    Resume,
    /// A new one.
    Renew,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let cured = particle::open(&args.device, |device| cure(args, device))?;
    if args.device.json() {
        ui::print(serde_json::to_string(&cured).unwrap_or_default())?;
    } else {
        ui::print(&cured)?;
    }
    Ok(match cured.reaches_cloud {
        Some(false) => ExitCode::from(Code::Data as u8),
        _ if !cured.server_works => ExitCode::from(Code::Data as u8),
        _ => ExitCode::SUCCESS,
    })
}

/// As `spark keys doctor`, on a device that is open already.
///
/// # Errors
/// [`Failure`]; device and cloud agree all the same.
pub fn cure_open(args: &Args, access: &mut Access<'_>) -> Result<Cured, Failure> {
    cure(args, &mut Particle::new(access)?)
}

/// What the doctor found and did.
#[derive(Clone, Debug, Serialize)]
pub struct Cured {
    device_id: Option<String>,
    findings: Vec<Finding>,
    remedy: Remedy,
    fingerprint: String,
    /// The file that the cloud has to be given, if no local cloud was.
    public: Option<PathBuf>,
    cloud_knows: bool,
    /// Whether the device has the key of the local cloud, if one was given, and an address that can be its.
    reaches_cloud: Option<bool>,
    /// Whether it has a server's key and an address with which it can connect, whoever's they are.
    server_works: bool,
    writes: Vec<Written>,
    dry_run: bool,
}

impl fmt::Display for Cured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writes.iter().try_for_each(|written| writeln!(f, "{written}"))?;
        f.write_str(match (self.remedy, self.dry_run) {
            (Remedy::Keep, _) => "the key works: ",
            (_, true) => "nothing was written; the key would be ",
            (Remedy::Repair, _) => "the key was repaired: ",
            (Remedy::Restore, _) => "an older generation of the table had a good key: ",
            (Remedy::Resume, _) => "the device has the key that an earlier run was about to write: ",
            (Remedy::Renew, _) => "the device has a new key: ",
        })?;
        match (self.remedy, self.dry_run) {
            (Remedy::Repair, true) => f.write_str("repaired")?,
            (Remedy::Restore, true) => f.write_str("the one of an older generation of the table")?,
            (Remedy::Resume, true) => f.write_str("the one that an earlier run was about to write")?,
            (Remedy::Renew, true) => f.write_str("a new one")?,
            _ => f.write_str(self.fingerprint.get(..16).unwrap_or_default())?,
        }
        match &self.public {
            _ if self.cloud_knows => f.write_str("; the cloud knows it")?,
            Some(path) => write!(f, "; now give {} to your cloud", path.display())?,
            None => {}
        }
        match self.reaches_cloud {
            Some(false) => f.write_str(
                "\nbut server key or address in the device are not this cloud's: repeat the command with --host HOST",
            ),
            _ if !self.server_works => f.write_str(
                "\nbut it cannot connect with the server key and address that it has: write them with `spark keys server KEY --host HOST`, \
                 or repeat the command with --cloud DIR --host HOST",
            ),
            _ => Ok(()),
        }
    }
}

fn cure(args: &Args, device: &mut Particle<'_, '_>) -> Result<Cured, Failure> {
    let ui = args.device.ui();
    let address = args.host.as_ref().map(|host| server::address(host, args.port)).transpose()?;
    let id = same_id(args.id, device.id())?;
    let protocol = Protocol::of(device, args.protocol)?;
    let segment = device.segment(protocol.private_key())?;
    let cloud = args.cloud.as_ref().map(|folder| Cloud::open(folder, id, protocol)).transpose()?;
    let server = match (&args.cloud, address) {
        (Some(folder), Some(block)) => {
            let key = ServerKey::of_cloud(folder, protocol)?;
            Some((device.segment(protocol.server_key())?, key.region(&block)?))
        }
        _ => None,
    };

    let field = Zeroizing::new(device.read(&segment, protocol.private_key_len())?);
    let recorded = cloud.as_ref().and_then(|cloud| cloud.recorded.as_deref());
    let whole = check::private_field(device, &segment, protocol)?;
    let (mut findings, works) = check::judge(protocol, &whole, recorded);
    let mut reaches_cloud = cloud.is_some().then_some(true);
    let mut server_works = true;
    if server.is_none() {
        let region = Region::read(device, protocol)?;
        let wanted = cloud.as_ref().map(|cloud| cloud.folder.server_spki()).transpose()?;
        let wanted = wanted.as_ref().map(<[u8; 294]>::as_slice);
        let examined = check::server_in_device(protocol, &region, wanted);
        let has_address = check::address_finding(protocol, region.address_block()).is_none();
        let agrees = server::disagreements(&region, wanted).is_empty();
        reaches_cloud = reaches_cloud.map(|_| agrees && has_address);
        server_works = examined.works;
        findings.extend(examined.findings);
    }
    for finding in &findings {
        ui.note(format_args!("{} ({})", finding.what, finding.code));
    }
    let present = Secret::of_field(protocol, &field).filter(|_| works);
    let (remedy, secret) = remedy(args, protocol, &field, works, cloud.as_ref(), device)?;
    let fingerprint = secret.fingerprint();
    let file = Names::of(&args.write.backup.join(format!("{}-{}", name(id), fingerprint.short())));
    let dry_run = args.write.dry_run;
    let mut writes = Vec::new();
    if dry_run && remedy != Remedy::Keep {
        files::check_folder(&args.write.backup)?;
    }
    if !dry_run {
        if remedy != Remedy::Keep {
            // A place that is erased leaves nothing to back up; the new key needs the folder all the same.
            files::make_folder(&args.write.backup)?;
            back_up(&args.write.backup, &name(id), segment.name, &field)?;
            file.write(&secret)?;
        }
        if let Some(cloud) = &cloud {
            // What the device has now gets in, whatever happens next.
            if let Some(present) = &present {
                cloud.record(&present.public(), &args.write.backup)?;
            }
            if remedy != Remedy::Keep {
                cloud.stage(&secret.public())?;
            }
        }
        if let Some((place, content)) = &server {
            writes.push(device.write(place, content, &args.write)?);
        }
        writes.push(match remedy {
            Remedy::Keep => device.unchanged(&segment, field.len()),
            _ => exchange(device, &segment, &secret, &field, cloud.as_ref(), &args.write).map_err(
                |failure| {
                    let done: Vec<_> =
                        writes.iter().filter(|write| write.changed).map(|write| write.segment).collect();
                    match done.is_empty() {
                        true => failure,
                        false => Failure::new(
                            failure.code(),
                            format_args!("{}; written before that: {}", failure.what(), done.join(", ")),
                            failure.next(),
                        ),
                    }
                },
            )?,
        });
    }
    device.finish(&args.write)?;
    Ok(Cured {
        device_id: id.map(|id| id.to_string()),
        findings,
        remedy,
        fingerprint: fingerprint.to_string(),
        public: (remedy != Remedy::Keep && !dry_run).then_some(file.public),
        cloud_knows: cloud.is_some() && !dry_run,
        reaches_cloud,
        server_works,
        writes,
        dry_run,
    })
}

fn same_id(given: Option<DeviceId>, told: Option<DeviceId>) -> Result<Option<DeviceId>, Failure> {
    match (given, told) {
        (Some(given), Some(told)) if given != told => Err(Failure::new(
            Code::Usage,
            format_args!("this is device {told}, not {given}"),
            "plug in the right device, or leave the id out",
        )),
        (given, told) => Ok(given.or(told)),
    }
}

fn name(id: Option<DeviceId>) -> String {
    id.map_or_else(|| "device".to_owned(), |id| id.to_string())
}

fn remedy(
    args: &Args,
    protocol: Protocol,
    field: &[u8],
    works: bool,
    cloud: Option<&Cloud>,
    device: &mut Particle<'_, '_>,
) -> Result<(Remedy, Secret), Failure> {
    let ui = args.device.ui();
    let readable = Secret::of_field(protocol, field);
    match readable {
        Some(secret) if !args.new && works => return Ok((Remedy::Keep, secret)),
        // Every other program reads it, the device does not.
        Some(secret) if !args.new => return Ok((Remedy::Repair, secret)),
        _ => {}
    }
    // A run that was ended before or during its write has left the key that the cloud takes already.
    if let Some(secret) = cloud.and_then(|cloud| cloud.unfinished(&args.write.backup)) {
        return Ok((Remedy::Resume, secret));
    }
    if !args.new {
        match repair::rebuild(protocol, field, cloud.and_then(|cloud| cloud.recorded.as_deref())) {
            Ok((secret, how)) => {
                ui.note(how);
                return Ok((Remedy::Repair, secret));
            }
            Err(why) => ui.note(format_args!("it cannot be repaired: {why}")),
        }
        if let Some(secret) = repair::older_generation(protocol, device) {
            return Ok((Remedy::Restore, secret));
        }
    }
    Ok((Remedy::Renew, Secret::generate(protocol)?))
}

/// Steps 4 and 5.
fn exchange(
    device: &mut Particle<'_, '_>,
    segment: &Segment,
    secret: &Secret,
    before: &[u8],
    cloud: Option<&Cloud>,
    options: &WriteOptions,
) -> Result<Written, Failure> {
    let result = device.write(segment, secret.field(), options);
    let settle = |commit: bool| match cloud {
        Some(cloud) if commit => cloud.commit(&options.backup),
        Some(cloud) => cloud.forget(),
        None => Ok(()),
    };
    match result {
        Ok(written) => settle(true).map(|()| written),
        Err(failure) => {
            let now = device.read(segment, before.len());
            let state = match now {
                Ok(now) if now == secret.field() => {
                    settle(true)?;
                    "the device has the new key all the same"
                }
                Ok(now) if now == before => {
                    settle(false)?;
                    "the device still holds what it held"
                }
                _ if cloud.is_some() => {
                    "until the command is repeated the cloud takes the old key and the new one"
                }
                _ => "repeat the command before you leave the device",
            };
            Err(Failure::new(failure.code(), failure.what(), format_args!("{}; {state}", failure.next())))
        }
    }
}

/// The local cloud's view of this device.
struct Cloud {
    folder: Folder,
    id: DeviceId,
    /// SubjectPublicKeyInfo of the recorded key.
    recorded: Option<Vec<u8>>,
}

impl Cloud {
    fn open(folder: &Path, id: Option<DeviceId>, protocol: Protocol) -> Result<Self, Failure> {
        if protocol == Protocol::Udp {
            return Err(Failure::new(
                Code::Usage,
                "the local cloud talks TCP, the device UDP",
                "leave --cloud out, or choose the device's TCP key with --protocol tcp",
            ));
        }
        let id = id.ok_or_else(|| {
            Failure::new(Code::Usage, "the device does not tell its id", "give it, 24 hex digits")
        })?;
        let folder = Folder::open_existing(folder)?;
        let recorded = folder.device_key(id)?.map(|(_, spki)| spki);
        Ok(Self { folder, id, recorded })
    }

    /// The key that an earlier run announced, if its file is there.
    fn unfinished(&self, files: &Path) -> Option<Secret> {
        let (_, spki) = self.folder.next_key(self.id).ok().flatten()?;
        let fingerprint = spark_keys::Fingerprint::of_spki(&spki);
        let path = Names::of(&files.join(format!("{}-{}", self.id, fingerprint.short()))).der;
        let secret = Secret::load(&path, &Zeroizing::new(std::fs::read(&path).ok()?)).ok()?;
        (secret.public().spki == spki).then_some(secret)
    }

    fn stage(&self, public: &Public) -> Result<(), Failure> {
        self.folder.stage(self.id, &public.spki).map(|_| ())
    }

    fn commit(&self, files: &Path) -> Result<(), Failure> {
        self.keep_record(files)?;
        self.folder.accept_next(self.id)
    }

    fn forget(&self) -> Result<(), Failure> {
        self.folder.forget_next(self.id)
    }

    /// The device has this key and keeps it.
    fn record(&self, public: &Public, files: &Path) -> Result<(), Failure> {
        let staged = self.folder.next_key(self.id)?.map(|(_, spki)| spki);
        if staged.as_deref() == Some(&public.spki) {
            return self.commit(files);
        }
        if self.recorded.as_deref() != Some(&public.spki) {
            self.keep_record(files)?;
            self.folder.enrol(self.id, &public.spki)?;
        }
        self.forget()
    }

    fn keep_record(&self, files: &Path) -> Result<(), Failure> {
        match &self.recorded {
            Some(spki) => back_up(files, &self.id.to_string(), "cloud-record", spki).map(|_| ()),
            None => Ok(()),
        }
    }
}
