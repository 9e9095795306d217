//! Tables in files and in devices.

use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::particle::{self, Particle};
use core::fmt;
use core::str::FromStr;
use serde_json::{Value, json};
use spark_dct::flash::SectorId;
use spark_dct::recovery::{Dump, Format, Target};
use spark_dct::segment::{DCT_ALTERNATE, Platform};
use spark_dct::select::Selection;
use spark_dct::{App, FirmwareVersion, app, dcd, wiced};
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of both sectors.
pub(crate) const PAIR: usize = 2 * wiced::SECTOR_SIZE;
/// A whole flash of a Photon, P1 or Electron.
const FLASH: usize = 0x10_0000;
/// Where the sectors are in it.
const PAIR_AT: usize = 0x4000;

/// A release of the firmware, on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Firmware(pub(crate) FirmwareVersion);

impl FromStr for Firmware {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.strip_prefix('v').unwrap_or(text).split('.').map(str::parse);
        match numbers.collect::<Result<Vec<u8>, _>>().as_deref() {
            Ok([major, minor, patch]) => Ok(Self(FirmwareVersion::new(*major, *minor, *patch))),
            _ => Err("a release has three numbers, as 0.6.4".to_owned()),
        }
    }
}

/// One of the two sectors.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// DCT1, at 08004000.
    #[value(name = "1")]
    One,
    /// DCT2, at 08008000.
    #[value(name = "2")]
    Two,
}

impl From<Which> for SectorId {
    fn from(which: Which) -> Self {
        match which {
            Which::One => SectorId::Dct1,
            Which::Two => SectorId::Dct2,
        }
    }
}

/// Name of a sector.
pub(crate) const fn name(id: SectorId) -> &'static str {
    match id {
        SectorId::Dct1 => "DCT1",
        SectorId::Dct2 => "DCT2",
    }
}

/// What a file of a table is.
pub(super) enum File {
    /// The application section.
    App(Zeroizing<Vec<u8>>),
    /// Both sectors.
    Pair(Pair),
}

/// Both sectors, and the file that they are in: it can be read once only if it is a pipe.
#[derive(Clone)]
pub(super) struct Pair {
    file: Zeroizing<Vec<u8>>,
    /// Where they are in it.
    at: usize,
}

impl Pair {
    pub(super) fn sectors(&self) -> &[u8] {
        self.file.get(self.at..self.at + PAIR).unwrap_or_default()
    }

    /// The file with other sectors.
    pub(super) fn file_with(&self, sectors: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut file = self.file.clone();
        file.iter_mut().skip(self.at).take(PAIR).zip(sectors).for_each(|(slot, byte)| *slot = *byte);
        file
    }
}

impl File {
    /// Reads a file: an application section, both sectors, or the whole flash.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let next = "give an application section (4258 to 16384 bytes), both sectors (32768 bytes from 08004000), or the whole flash (1 MiB)";
        let bytes = files::read_up_to(path, FLASH as u64).map_err(|failure| match failure.code() {
            Code::Data => Failure::new(Code::Data, format_args!("{} as a table", failure.what()), next),
            _ => failure,
        })?;
        Self::of(Zeroizing::new(bytes)).map_err(|len| {
            Failure::new(
                Code::Data,
                format_args!("{} has {len} bytes, which is no table", path.display()),
                next,
            )
        })
    }

    /// By the length.
    fn of(bytes: Zeroizing<Vec<u8>>) -> Result<Self, usize> {
        match bytes.len() {
            app::LEN_OLD..=app::MAX_LEN => Ok(Self::App(bytes)),
            PAIR => Ok(Self::Pair(Pair { file: bytes, at: 0 })),
            FLASH => Ok(Self::Pair(Pair { file: bytes, at: PAIR_AT })),
            len => Err(len),
        }
    }
}

/// A table that was read, and where it came from.
pub(crate) struct Table {
    /// The application section.
    pub(super) app: Zeroizing<Vec<u8>>,
    pub(super) origin: Origin,
}

/// Where a table came from.
pub(super) enum Origin {
    Image,
    Device,
    Pair { pair: Pair, target: Target, selection: Selection },
}

impl Table {
    /// The table of a file, or of the device that the options choose.
    pub(super) fn load(
        file: Option<&Path>,
        firmware: Option<Firmware>,
        sector: Option<Which>,
        device: &DeviceOptions,
    ) -> Result<Self, Failure> {
        match file {
            Some(path) => Self::of_file(path, firmware, sector),
            None => particle::open(device, Self::of_device),
        }
    }

    pub(super) fn of_file(
        path: &Path,
        firmware: Option<Firmware>,
        sector: Option<Which>,
    ) -> Result<Self, Failure> {
        Self::of(File::read(path)?, path, firmware, sector)
    }

    /// The table of a file that was read; `path` is for messages.
    pub(super) fn of(
        file: File,
        path: &Path,
        firmware: Option<Firmware>,
        sector: Option<Which>,
    ) -> Result<Self, Failure> {
        let pair = match file {
            File::App(app) => return Ok(Self { app, origin: Origin::Image }),
            File::Pair(pair) => pair,
        };
        let dump = dump(pair.sectors())?;
        let Some(target) = target(&dump, firmware) else {
            return Err(Failure::new(
                Code::Data,
                format_args!("{}: neither sector has the mark of a table", path.display()),
                "`spark dct recover` looks for what is left",
            ));
        };
        let selection = dump.select(target);
        let id = match (sector, selection.sector) {
            (Some(which), _) => which.into(),
            (None, Some(id)) => id,
            (None, None) => {
                return Err(Failure::new(
                    Code::Data,
                    format_args!("{}: for {target}, {}", path.display(), selection.reason),
                    "`spark dct recover` looks for what is left; --sector shows one of them all the same",
                ));
            }
        };
        let app = dump.candidate(id).app;
        if app.is_empty() {
            return Err(Failure::new(
                Code::Data,
                format_args!("{}: {} holds no table", path.display(), name(id)),
                "look at the other sector",
            ));
        }
        let app = Zeroizing::new(app.get(..app.len().min(target.structure_len())).unwrap_or(app).to_vec());
        Ok(Self { app, origin: Origin::Pair { pair, target, selection } })
    }

    pub(crate) fn of_device(device: &mut Particle<'_, '_>) -> Result<Self, Failure> {
        if device.platform() == Platform::Core {
            return Err(Failure::new(
                Code::Usage,
                "a Core has no table: its keys are in external flash",
                "`spark keys` reads and writes them",
            ));
        }
        // Firmware before 0.7.0 has less; behind it the flash is erased.
        let app = Zeroizing::new(device.read_at(DCT_ALTERNATE, 0, app::LEN)?);
        Ok(Self { app, origin: Origin::Device })
    }

    pub(super) fn view(&self) -> Result<App<'_>, Failure> {
        App::new(&self.app)
            .map_err(|error| Failure::new(Code::Data, chain(&error), "`spark inspect` says what the file is"))
    }

    pub(super) fn to_json(&self) -> Value {
        match &self.origin {
            Origin::Image => json!({ "type": "dct-app", "length": self.app.len() }),
            Origin::Device => json!({ "type": "device", "length": self.app.len() }),
            Origin::Pair { target, selection, .. } => json!({
                "type": "dct-flash", "length": self.app.len(), "firmware": target.to_string(),
                "selected": selection.sector.map(name), "reason": selection.reason.to_string(),
            }),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.app.len();
        match &self.origin {
            Origin::Image => write!(f, "application section of {len} bytes"),
            Origin::Device => write!(f, "application section of the device, {len} bytes"),
            Origin::Pair { target, selection, .. } => match selection.sector {
                Some(id) => write!(f, "two sectors; {target} reads {}: {}", name(id), selection.reason),
                None => write!(f, "two sectors; {target}: {}", selection.reason),
            },
        }
    }
}

/// Both sectors of a pair.
pub(crate) fn dump(pair: &[u8]) -> Result<Dump<'_>, Failure> {
    Dump::from_slice(pair)
        .map_err(|error| Failure::new(Code::Data, chain(&error), "save both sectors from 08004000"))
}

/// The firmware that the sectors belong to: the given release, or the generation that has left its marks there.
pub(crate) fn target(dump: &Dump<'_>, firmware: Option<Firmware>) -> Option<Target> {
    let ids = [SectorId::Dct1, SectorId::Dct2];
    let format = ids.iter().find_map(|id| dump.candidate(*id).format)?;
    Some(match (format, firmware) {
        (Format::Dcd, Some(Firmware(version))) => Target::Dcd(dcd::Generation::of_firmware(version)),
        (_, Some(Firmware(version))) => Target::Wiced(wiced::Generation::of_firmware(version)),
        (Format::Dcd, None) => {
            let sectors = dcd::Sectors::new(dump.sector(SectorId::Dct1), dump.sector(SectorId::Dct2));
            let new = ids.iter().any(|id| {
                let replaced = dcd::Header::of_sector(sectors.sector(*id)).seal == dcd::Seal::Replaced;
                replaced || dcd::Footer::of_sector(sectors.sector(*id)).is_valid()
            });
            Target::Dcd(if new { dcd::Generation::V2 } else { dcd::Generation::V1 })
        }
        (_, None) => {
            let new = ids.iter().any(|id| wiced::VersionRecord::of_sector(dump.sector(*id)).is_valid());
            Target::Wiced(if new { wiced::Generation::V0_7_0 } else { wiced::Generation::V0_4_4 })
        }
    })
}
