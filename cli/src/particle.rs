//! A Particle device in DFU mode: its platform, its id, and the named places of its memory.

use crate::dct::image;
use crate::dfu::{Access, DeviceOptions, access};
use crate::exit::{Code, Failure, chain};
use crate::files;
use coap_spark::handshake::DeviceId;
use core::fmt;
use serde::Serialize;
use spark_dct::flash::SectorId;
use spark_dct::recovery::Target;
use spark_dct::segment::{Platform, Segment};
use spark_dct::{FirmwareVersion, app, layout, wiced};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The device.
pub(crate) struct Particle<'a, 'p> {
    access: &'a mut Access<'p>,
    platform: Platform,
    id: Option<DeviceId>,
    /// Both sectors of the table as they were found.
    sectors: Sectors,
    /// They are in a file.
    sectors_kept: bool,
    /// What the device shows as its table is in one of them.
    is_shown: bool,
    /// The release of the firmware, if the user told it.
    firmware: Option<FirmwareVersion>,
}

/// Both sectors of the table: the second generation in them is lost with the first write.
enum Sectors {
    Unread,
    /// The device has none, or does not show them.
    None,
    Read(Zeroizing<Vec<u8>>),
}

/// How places are written.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct WriteOptions {
    /// Folder for what was in the device before; made if it is missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) backup: PathBuf,
    /// Check everything and show what would be written, but write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Start the firmware at the end.
    #[arg(long)]
    pub(crate) leave: bool,
}

/// What was done to a place.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Written {
    pub(crate) segment: &'static str,
    pub(crate) alternate: u8,
    pub(crate) address: u32,
    pub(crate) bytes: usize,
    /// `false` if it held the same already.
    pub(crate) changed: bool,
    /// Nothing was written because of `--dry-run`.
    pub(crate) dry_run: bool,
    /// The file with what was there before; `null` if that was erased flash or the same.
    pub(crate) backup: Option<PathBuf>,
    /// The file with both sectors of the table before the first write; they may hold an older generation.
    pub(crate) sectors: Option<PathBuf>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, address, bytes, .. } = self;
        match (self.changed, self.dry_run) {
            (false, _) => write!(f, "{segment}: holds the same already, not written"),
            (true, true) => write!(f, "{segment}: {bytes} bytes would be written at {address:#x}"),
            (true, false) => {
                write!(f, "{segment}: {bytes} bytes written at {address:#x}, read back and equal")
            }
        }?;
        for (what, path) in [("before", &self.backup), ("both sectors before", &self.sectors)] {
            if let Some(path) = path {
                write!(f, "; {what}: {}", path.display())?;
            }
        }
        Ok(())
    }
}

/// Opens the device that the options choose and works with it.
pub(crate) fn open<T>(
    options: &DeviceOptions,
    work: impl FnOnce(&mut Particle<'_, '_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    access(options, |access| {
        options.ui().note(access.device());
        work(&mut Particle::new(access)?)
    })
}

impl<'a, 'p> Particle<'a, 'p> {
    /// Takes a device if it is one of Particle's.
    pub(crate) fn new(access: &'a mut Access<'p>) -> Result<Self, Failure> {
        let device = access.device();
        let Some(platform) = Platform::from_usb_id(device.id_vendor, device.id_product) else {
            return Err(Failure::new(
                Code::Unavailable,
                format_args!("{device} is no device of Particle's"),
                "choose a Photon, P1, Electron, Core or one of their successors with -d, -p or -S",
            ));
        };
        // The DFU serial number of these devices is their id.
        let id = device.serial.parse().ok();
        Ok(Self {
            access,
            platform,
            id,
            sectors: Sectors::Unread,
            sectors_kept: false,
            is_shown: false,
            firmware: None,
        })
    }

    pub(crate) const fn platform(&self) -> Platform {
        self.platform
    }

    /// The device id, if the device tells it.
    pub(crate) const fn id(&self) -> Option<DeviceId> {
        self.id
    }

    /// Takes the release of the firmware from the user, instead of the marks in the table.
    pub(crate) const fn set_firmware(&mut self, version: Option<FirmwareVersion>) {
        self.firmware = version;
    }

    /// Refuses what would end behind the fields of the table that the device's firmware has: before v0.7.0 it has half of them.
    pub(crate) fn check_table(&mut self, segment: &Segment, len: usize) -> Result<(), Failure> {
        let end = usize::try_from(segment.address).unwrap_or(usize::MAX).saturating_add(len);
        if !self.platform.is_table(segment.alternate) || end <= app::LEN_OLD {
            return Ok(());
        }
        let (limit, who) = match self.firmware {
            Some(version) => (layout::length(version), format!("firmware {version}")),
            None => match self.sectors().and_then(|pair| image::dump(pair).ok()) {
                Some(dump) => match image::target_by_marks(&dump) {
                    Some(target) => {
                        (target.structure_len(), format!("the firmware that wrote the table ({target})"))
                    }
                    None => return Ok(()),
                },
                None => return Ok(()),
            },
        };
        if end <= limit {
            return Ok(());
        }
        Err(Failure::new(
            Code::Usage,
            format_args!(
                "{} ends at byte {end} of the table, and for {who} the fields end at {limit}",
                segment.name
            ),
            "nothing was written; update the device first, or say with --firmware which release it has",
        ))
    }

    /// What files of this device are called.
    pub(crate) fn name(&self) -> String {
        self.id.map_or_else(|| "device".to_owned(), |id| id.to_string())
    }

    /// A named place.
    pub(crate) fn segment(&self, name: &str) -> Result<Segment, Failure> {
        self.platform.segment(name).ok_or_else(|| {
            Failure::new(
                Code::Usage,
                format_args!("this kind of device ({:?}) has no {name}", self.platform),
                "check --protocol and the kind of device",
            )
        })
    }

    /// Reads the first `len` bytes of a place.
    pub(crate) fn read(&mut self, segment: &Segment, len: usize) -> Result<Vec<u8>, Failure> {
        self.read_at(segment.alternate, segment.address, len)
    }

    /// Reads bytes of the configuration.
    pub(crate) fn read_at(&mut self, alternate: u8, address: u32, len: usize) -> Result<Vec<u8>, Failure> {
        if self.platform.is_table(alternate) && !self.is_shown {
            self.check_shown(alternate)?;
            self.is_shown = true;
        }
        self.access.read(alternate, address, len)
    }

    /// Refuses a device that shows what is in neither sector of its flash. The bootloader leaves its table to the system
    /// firmware: where that is missing or damaged, anything may come.
    fn check_shown(&mut self, alternate: u8) -> Result<(), Failure> {
        let Some(pair) = self.sectors() else { return Ok(()) };
        let Ok(dump) = image::dump(pair) else { return Ok(()) };
        // Firmware reads damaged sectors, too.
        let tables: Vec<_> = dump
            .candidates()
            .into_iter()
            .filter_map(|table| table.app.get(..app::LEN_OLD).map(|app| Zeroizing::new(app.to_vec())))
            .collect();
        let is_read = Target::ALL.into_iter().any(|target| dump.select(target).sector.is_some());
        let is_blank = pair.iter().all(|byte| *byte == 0xFF);
        let shown = Zeroizing::new(self.access.read(alternate, 0, app::LEN_OLD)?);
        let is_nothing = !is_blank && shown.iter().all(|byte| *byte == 0);
        // Where no firmware would read either sector, it starts an empty table.
        if tables.contains(&shown) || !is_read && !is_nothing {
            return Ok(());
        }
        Err(Failure::new(
            Code::Unavailable,
            "the device shows a configuration that is not the one in its flash: its system firmware, which reads it for the \
             bootloader, is missing or damaged",
            "write the system firmware first with `spark flash`; `spark dct recover` and `spark dfu upload -a 0` read the flash itself",
        ))
    }

    /// Writes the first bytes of a place, if they differ: what was there is kept in a file first, and what is there
    /// afterwards is read back.
    pub(crate) fn write(
        &mut self,
        segment: &Segment,
        data: &[u8],
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let planned = segment
            .plan_write(data.len(), None)
            .map_err(|error| Failure::new(Code::Data, chain(&error), "nothing was written"))?;
        self.check_table(segment, data.len())?;
        // A Core takes whole words only.
        let mut data = Zeroizing::new(data.to_vec());
        data.resize(planned.padded_len, 0);
        let before = Zeroizing::new(self.read(segment, data.len())?);
        let mut written = Written {
            segment: segment.name,
            alternate: segment.alternate,
            address: segment.address,
            bytes: data.len(),
            changed: *before != *data,
            dry_run: options.dry_run,
            backup: None,
            sectors: None,
        };
        if !written.changed {
            return Ok(written);
        }
        if options.dry_run {
            return check_back_up(&options.backup, &self.name(), segment.name, &before).map(|()| written);
        }
        // The first write ends the older generation.
        if self.platform.is_table(segment.alternate) && !self.sectors_kept {
            let name = self.name();
            if let Some(sectors) = self.sectors() {
                written.sectors = back_up(&options.backup, &name, "sectors", sectors)?;
            }
            self.sectors_kept = true;
        }
        written.backup = back_up(&options.backup, &self.name(), segment.name, &before)?;
        let safe = |failure: &Failure| {
            let kept = match &written.backup {
                Some(path) => format!("what was there before is in {}", path.display()),
                None => "it was erased before".to_owned(),
            };
            Failure::new(
                failure.code(),
                format_args!("{} may be half written: {}", segment.name, failure.what()),
                format_args!("{}; {kept}", failure.next()),
            )
        };
        if self.may_mix(segment, &data) {
            self.access.note(
                "do not unplug the device now: its firmware, if it is of 0.4.4 to 0.6.4, mixes old and new bytes until it is done",
            );
        }
        self.access.write(planned.alternate, planned.address, &data).map_err(|failure| safe(&failure))?;
        // The write compared page by page; once more now that all of it is there.
        if self.read(segment, data.len()).map_err(|failure| safe(&failure))? != *data {
            let wrong = Failure::new(
                Code::Io,
                "the device does not hold what was written",
                "repeat the command; if it fails again, the flash is worn out",
            );
            return Err(safe(&wrong));
        }
        Ok(written)
    }

    /// Whether firmware that the marks in the table allow for passes through the AND of what is there and what is written.
    fn may_mix(&mut self, segment: &Segment, data: &[u8]) -> bool {
        if !self.platform.is_table(segment.alternate) {
            return false;
        }
        let firmware = self.firmware;
        let Some(dump) = self.sectors().and_then(|pair| image::dump(pair).ok()) else { return false };
        let Some(Target::Wiced(marked)) = image::target_by_marks(&dump) else { return false };
        let generation = firmware.map_or(marked, wiced::Generation::of_firmware);
        let sectors = wiced::Sectors::new(dump.sector(SectorId::Dct1), dump.sector(SectorId::Dct2));
        usize::try_from(segment.address)
            .ok()
            .and_then(|offset| wiced::Write::new(sectors, generation, offset, data).ok())
            .is_some_and(|write| write.is_hazardous())
    }

    /// What is said of a place that was left alone.
    pub(crate) const fn unchanged(&self, segment: &Segment, bytes: usize) -> Written {
        Written {
            segment: segment.name,
            alternate: segment.alternate,
            address: segment.address,
            bytes,
            changed: false,
            dry_run: false,
            backup: None,
            sectors: None,
        }
    }

    /// Both sectors of the table as they were before anything was written: the second one may hold an older generation.
    /// `None` if the device has none, or does not show them.
    pub(crate) fn sectors(&mut self) -> Option<&[u8]> {
        if matches!(self.sectors, Sectors::Unread) {
            let has_sectors = matches!(self.platform, Platform::Photon | Platform::P1 | Platform::Electron);
            let read =
                has_sectors.then(|| self.access.read(0, wiced::SECTOR_ADDRESSES[0], 2 * wiced::SECTOR_SIZE));
            self.sectors = match read {
                Some(Ok(bytes)) => Sectors::Read(Zeroizing::new(bytes)),
                // Bootloaders may keep them to themselves; the table itself can be written all the same.
                Some(Err(_)) | None => Sectors::None,
            };
        }
        match &self.sectors {
            Sectors::Read(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Starts the firmware if asked for.
    pub(crate) fn finish(&mut self, options: &WriteOptions) -> Result<(), Failure> {
        if options.leave && !options.dry_run { self.access.leave() } else { Ok(()) }
    }
}

/// Keeps bytes in a file of their own, named after their content: nothing is ever overwritten. Erased flash is not kept.
pub(crate) fn back_up(
    folder: &Path,
    device: &str,
    what: &str,
    content: &[u8],
) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = backup_path(folder, device, what, content) else { return Ok(None) };
    files::make_folder(folder)?;
    files::write_secret(&path, content)?;
    Ok(Some(path))
}

/// Whether [`back_up`] could keep the bytes now.
fn check_back_up(folder: &Path, device: &str, what: &str, content: &[u8]) -> Result<(), Failure> {
    let Some(path) = backup_path(folder, device, what, content) else { return Ok(()) };
    files::check_folder(folder)?;
    if folder.is_dir() { files::check_write(&path) } else { Ok(()) }
}

fn backup_path(folder: &Path, device: &str, what: &str, content: &[u8]) -> Option<PathBuf> {
    if content.iter().all(|byte| *byte == 0xFF) {
        return None;
    }
    let digest = files::sha256(content);
    let short = digest.get(..16).unwrap_or(&digest);
    Some(folder.join(format!("{device}-{what}-{short}.bin")))
}
