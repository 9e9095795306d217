//! Where firmware generations differ, as one table.

/// How a device gets its image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Downloader {
    /// The whole file at once, with `200 OK`. It breaks with 404 when data comes faster than it can be written.
    Whole {
        /// Bytes that can wait to be written.
        buffer: u32,
        /// Bytes that are written in a second.
        per_second: u32,
    },
    /// 4096 bytes at a time, with `206 Partial Content`.
    Ranges,
}

/// What a firmware generation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Profile {
    /// How it gets the image.
    pub downloader: Downloader,
    /// An upgrade is acknowledged before the download, and its result comes as `upgradeState`. Others answer once, at the end.
    pub acknowledges_first: bool,
    /// An upgrade without `autoRestart` is refused with 400.
    pub wants_auto_restart: bool,
    /// An upgrade for another model closes the connection, where others answer 406.
    pub closes_on_model: bool,
    /// The port of the dispatch answer may be a text.
    pub port_as_text: bool,
    /// A message with `{}`, `[]`, `null`, `true` or `false` is not understood.
    pub refuses_empty: bool,
    /// It checks the certificate of the server, which only the vendor's passes.
    pub pins_certificate: bool,
    /// It was built without TLS.
    pub plain: bool,
}

impl Profile {
    /// 1.2.0, 1.3.0, 1.5.2. How fast they can write is not known: these numbers take the 4667 bytes per second of SonOTA's
    /// paced download and not a file at once.
    pub const OLD: Self = Self {
        downloader: Downloader::Whole { buffer: 8192, per_second: 20_000 },
        acknowledges_first: false,
        wants_auto_restart: false,
        closes_on_model: true,
        port_as_text: true,
        refuses_empty: false,
        pins_certificate: false,
        plain: false,
    };

    /// 1.5.5, 2.0.x.
    pub const RANGES: Self = Self { downloader: Downloader::Ranges, ..Self::OLD };

    /// The IoTgo 2.0 generation. That it fails on empty values is the careful reading of the vendor's server, which never
    /// sends them.
    pub const LATER: Self = Self {
        acknowledges_first: true,
        wants_auto_restart: true,
        closes_on_model: false,
        port_as_text: false,
        refuses_empty: true,
        ..Self::RANGES
    };

    /// 1.6 to before 2.0, and 2.6 and later: no other server than the vendor's is accepted.
    pub const PINNED: Self = Self { pins_certificate: true, ..Self::LATER };
}
