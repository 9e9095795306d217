//! Tables in files and in devices.

use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure, chain};
use crate::files;
use crate::particle::{self, Particle};
use core::fmt;
use core::str::FromStr;
use serde_json::{Value, json};
use spark_dct::flash::SectorId;
use spark_dct::recovery::{Dump, Format, Standing, Target};
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

impl From<Container> for Format {
    fn from(container: Container) -> Self {
        match container {
            Container::Photon => Format::Wiced,
            Container::Electron => Format::Dcd,
        }
    }
}

impl From<Which> for SectorId {
    fn from(which: Which) -> Self {
        match which {
            Which::One => SectorId::Dct1,
            Which::Two => SectorId::Dct2,
        }
    }
}

/// Whose sectors.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Container {
    /// Photon or P1.
    Photon,
    /// Electron.
    Electron,
}

/// The firmware that reads both sectors, as far as the command line says.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Reader {
    pub(super) firmware: Option<Firmware>,
    pub(super) platform: Option<Container>,
}

/// Name of a sector.
pub(crate) const fn name(id: SectorId) -> &'static str {
    match id {
        SectorId::Dct1 => "DCT1",
        SectorId::Dct2 => "DCT2",
    }
}

/// What a Photon's sector has besides its table: name, offset and length.
pub(super) fn sections(generation: wiced::Generation) -> impl Iterator<Item = (&'static str, usize, usize)> {
    use wiced::{MfgInfo, NetworkConfig, Security, WifiConfig};
    let has_network = generation == wiced::Generation::V0_7_0;
    let sections = [
        ("manufacturing information", MfgInfo::OFFSET, MfgInfo::LEN),
        ("WICED keys", Security::OFFSET, Security::LEN),
        ("Wi-Fi credentials", WifiConfig::OFFSET, WifiConfig::LEN),
        ("network configuration", NetworkConfig::OFFSET, NetworkConfig::LEN),
    ];
    sections.into_iter().filter(move |(_, at, _)| has_network || *at != NetworkConfig::OFFSET)
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
    /// Reads a file, or standard input for `-`: an application section, both sectors, or the whole flash.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let next = "give an application section (4258 to 16384 bytes), both sectors (32768 bytes from 08004000), or the whole flash (1 MiB)";
        let bytes = files::read_input_up_to(path, FLASH as u64).map_err(|failure| match failure.code() {
            Code::Data => Failure::new(Code::Data, format_args!("{} as a table", failure.what()), next),
            _ => failure,
        })?;
        let file = Self::of(Zeroizing::new(bytes)).map_err(|len| {
            Failure::new(
                Code::Data,
                format_args!("{} has {len} bytes, which is no table", path.display()),
                next,
            )
        })?;
        match &file {
            Self::App(bytes) if is_raw_sector(bytes) => Err(Failure::new(
                Code::Data,
                format_args!(
                    "{} is a sector of the flash as it is, not the application section in it, and one of two",
                    path.display()
                ),
                "save both sectors, 32768 bytes from 08004000: `spark dfu upload -a 0 -s 0x08004000:0x8000 FILE`",
            )),
            _ => Ok(file),
        }
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

/// Whether bytes begin as a sector of a container does, or, with the length of one, end like it: an application section does
/// neither. At its end may be the first mark of the Electron's next sector, so there only a checksum that fits counts.
pub(crate) fn is_raw_sector(bytes: &[u8]) -> bool {
    let mut sector = Zeroizing::new([0xFF; wiced::SECTOR_SIZE]);
    sector.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    let dump = Dump::new(&sector, const { &[0xFF; wiced::SECTOR_SIZE] });
    let candidate = dump.candidate(SectorId::Dct1);
    let is_one = match candidate.format {
        Some(Format::Dcd) => {
            bytes.starts_with(&dcd::WATERMARK.to_le_bytes()) || candidate.standing == Standing::Unfinished
        }
        format => format.is_some(),
    };
    bytes.len() <= sector.len() && is_one
}

/// Refuses one or both sectors where a key is expected.
pub(crate) fn refuse_sectors(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if !bytes.chunks(wiced::SECTOR_SIZE).take(2).any(is_raw_sector) {
        return Ok(());
    }
    Err(Failure::new(
        Code::Data,
        format_args!("{} holds sectors of a configuration table, not a key", path.display()),
        "`spark inspect` checks the keys in them; `spark dct get device_private_key --file FILE --raw KEY` takes one out",
    ))
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
        reader: Reader,
        sector: Option<Which>,
        device: &DeviceOptions,
    ) -> Result<Self, Failure> {
        match file {
            Some(path) => Self::of_file(path, reader, sector),
            None => particle::open(device, Self::of_device),
        }
    }

    pub(super) fn of_file(path: &Path, reader: Reader, sector: Option<Which>) -> Result<Self, Failure> {
        Self::of(File::read(path)?, path, reader, sector)
    }

    /// The table of a file that was read; `path` is for messages.
    pub(super) fn of(
        file: File,
        path: &Path,
        reader: Reader,
        sector: Option<Which>,
    ) -> Result<Self, Failure> {
        let pair = match file {
            File::App(app) => return Ok(Self { app, origin: Origin::Image }),
            File::Pair(pair) => pair,
        };
        let dump = dump(pair.sectors())?;
        let dump = reader.platform.map_or(dump, |platform| dump.assume(platform.into()));
        let Some(target) = target(&dump, reader) else {
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

/// The firmware that the sectors belong to: the given one, or the one that has left its marks there. `None` without either.
///
/// A migrated Electron has both containers: the older one, of the Photon, is what it came from.
pub(super) fn target(dump: &Dump<'_>, reader: Reader) -> Option<Target> {
    let candidates = dump.candidates();
    let has = |format| candidates.iter().any(|candidate| candidate.format == Some(format));
    let container = match (has(Format::Dcd), has(Format::Wiced)) {
        (false, false) => None,
        (true, _) => Some(Container::Electron),
        (false, true) => Some(Container::Photon),
    };
    let version = reader.firmware.map(|Firmware(version)| version);
    Some(match reader.platform.or(container)? {
        Container::Photon => Target::Wiced(version.map_or_else(
            || {
                // A default table of v0.7.0 has version 0, which does not count as one.
                let of_new =
                    |sector| wiced::VersionRecord::of_sector(sector).magic == wiced::VersionRecord::MAGIC;
                let new = candidates.iter().any(|candidate| of_new(dump.sector(candidate.id)));
                if new { wiced::Generation::V0_7_0 } else { wiced::Generation::V0_4_4 }
            },
            wiced::Generation::of_firmware,
        )),
        Container::Electron => Target::Dcd(version.map_or_else(
            || {
                let of_new = |sector| {
                    dcd::Header::of_sector(sector).seal == dcd::Seal::Replaced
                        || dcd::Footer::of_sector(sector).is_valid()
                };
                let mut own = candidates.iter().filter(|candidate| candidate.format == Some(Format::Dcd));
                if own.any(|candidate| of_new(dump.sector(candidate.id))) {
                    dcd::Generation::V2
                } else {
                    dcd::Generation::V1
                }
            },
            dcd::Generation::of_firmware,
        )),
    })
}

/// As [`target`], by the marks alone.
pub(crate) fn target_by_marks(dump: &Dump<'_>) -> Option<Target> {
    target(dump, Reader::default())
}
