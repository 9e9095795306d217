//! The devices that can hang on the cable.

use spark_dfu::descriptor::{Attributes, Commands, Description, FunctionalDescriptor};
use spark_dfu::device::Profile;

/// One device: what it is in DFU mode and, if it has one, in run-time mode.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name in `SPARK_USB_DEVICE`.
    pub name: &'static str,
    /// DFU mode.
    pub dfu: Description<'static>,
    /// How it behaves there.
    pub profile: Profile,
    /// Run-time mode; without it the device starts in DFU mode and is gone when it leaves.
    pub runtime: Option<Description<'static>>,
    /// Whether it answers nothing while it works, as firmware does that waits for its flash. Others answer dfuDNBUSY.
    pub deaf_at_work: bool,
    /// Files of the memories, one an alternate setting, with base address and size.
    pub memories: &'static [MemoryFile],
}

/// One memory.
#[derive(Debug, Clone, Copy)]
pub struct MemoryFile {
    /// File name in `SPARK_USB_STATE`.
    pub name: &'static str,
    /// Address of the first byte.
    pub base: u32,
    /// Bytes.
    pub size: usize,
    /// NOR flash is erased by pages, and programming only clears bits. Other memory takes any write, erasing is a no-op.
    pub nor: bool,
    /// Writes and erases below fail.
    pub writable_from: u32,
    /// Byte i of a new memory.
    pub fresh: fn(usize) -> u8,
}

const fn low(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

/// As in the recorded sessions.
const PHOTON: [MemoryFile; 2] = [
    MemoryFile {
        name: "flash.bin",
        base: 0x0800_0000,
        size: 1 << 20,
        nor: true,
        writable_from: 0x0802_0000,
        fresh: |i| 0xA5 ^ low(i) ^ low(i >> 8),
    },
    MemoryFile {
        name: "dct.bin",
        base: 0,
        size: 16384,
        nor: false,
        writable_from: 0,
        fresh: |i| low(7 * i + 3),
    },
];

const IMAGE: [MemoryFile; 1] =
    [MemoryFile { name: "image.bin", base: 0, size: 100_000, nor: false, writable_from: 0, fresh: |_| 0xFF }];

fn plain(attributes: u8, dfu_version: u16) -> Description<'static> {
    Description {
        id_product: 0xD0DF,
        product: "plain DFU",
        alternates: &["Firmware"],
        functional: FunctionalDescriptor {
            attributes: Attributes(attributes),
            detach_timeout_ms: 2000,
            transfer_size: 1024,
            dfu_version,
        },
        commands: Commands::NONE,
        ..Description::photon("12345")
    }
}

fn runtime(attributes: u8) -> Option<Description<'static>> {
    let description = plain(attributes, FunctionalDescriptor::VERSION_1_1);
    Some(Description { id_product: 0xC0DE, product: "application", ..description })
}

/// The device of that name.
#[must_use]
pub fn find(name: &str) -> Option<Kind> {
    let photon = Description::photon("12345");
    let every = Description { commands: Commands::ALL, ..photon };
    let st = Description { id_vendor: 0x0483, id_product: 0xDF11, ..photon };
    let dfuse = |name, dfu, profile| Kind {
        name,
        dfu,
        profile,
        runtime: None,
        deaf_at_work: false,
        memories: &PHOTON,
    };
    let kinds = [
        dfuse("photon", photon, Profile::PHOTON_2_3_1),
        dfuse("photon-0.5.3", photon, Profile::PHOTON_0_5_3),
        dfuse("st-0.5.3", st, Profile::PHOTON_0_5_3),
        dfuse("strict", every, Profile::STRICT),
        dfuse("tolerant", every, Profile::TOLERANT),
        Kind { deaf_at_work: true, ..dfuse("tolerant-deaf", every, Profile::TOLERANT) },
        Kind {
            name: "dfu-1.0",
            dfu: plain(0x07, FunctionalDescriptor::VERSION_1_0),
            profile: Profile::STRICT,
            runtime: None,
            deaf_at_work: false,
            memories: &IMAGE,
        },
        Kind {
            name: "runtime",
            dfu: plain(0x03, FunctionalDescriptor::VERSION_1_1),
            profile: Profile::STRICT,
            runtime: runtime(0x03),
            deaf_at_work: false,
            memories: &IMAGE,
        },
        Kind {
            name: "runtime-detaches",
            dfu: plain(0x0F, FunctionalDescriptor::VERSION_1_1),
            profile: Profile::TOLERANT,
            runtime: runtime(0x0F),
            deaf_at_work: false,
            memories: &IMAGE,
        },
    ];
    kinds.into_iter().find(|kind| kind.name == name)
}
