//! What the system firmware of each release does, as one table. The version of system part 2 decides which row a device
//! has, or the device is told.

use coap_spark::connection::Profile as LinkProfile;
use coap_spark::message::HelloFlags;
use coap_spark::message::system_event::{PARTICLE_PREFIX, PREFIX};
use core::fmt;
use core::str::FromStr;
use spark_dct::wiced::Generation;
use spark_ota::module::DependencyRule;
use spark_ota::serial::Profile as SerialProfile;
use spark_ota::transfer::Profile as TransferProfile;

/// Behaviour of one range of releases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Firmware {
    /// Name of the transfer profile: `S1`, `S2`, `C1`, `C2`, `C3` or `C4`.
    pub profile: &'static str,
    /// The first release that behaves so.
    pub release: &'static str,
    /// First version of system part 2 with this behaviour; `None` for firmware that no Photon has.
    pub since: Option<u16>,
    /// Cloud connection.
    pub link: LinkProfile,
    /// Update over the cloud.
    pub transfer: TransferProfile,
    /// Configuration table.
    pub configuration: Generation,
    /// Dependencies that are looked at.
    pub dependencies: DependencyRule,
    /// An update that an installed system part is too new for is refused.
    pub full_dependencies: bool,
    /// Flags of Hello beside "update succeeded".
    pub hello_flags: HelloFlags,
    /// What it says after the server's Hello, in this order.
    pub introduction: &'static [Saying],
    /// Prefixes that the system itself subscribes to.
    pub system_subscriptions: &'static [&'static str],
    /// Describe is answered twice, the second time with functions and variables only and under a message id of no
    /// meaning.
    pub describes_twice: bool,
    /// Answer to a request for a variable that is not there.
    pub unknown_variable: UnknownVariable,
    /// It says Goodbye when it leaves.
    pub says_goodbye: bool,
    /// `network` is a way to restart.
    pub restarts_network: bool,
    /// A damaged application is replaced by the factory copy at the start, if that is good.
    pub restores_factory: bool,
    /// An image that a host has put into the OTA region is installed at the start, if the table says so.
    pub installs_stored: bool,
    /// Serial port. When between 0.4 and 2.0 firmware began to validate before it acknowledges is not known.
    pub serial: SerialProfile,
}

/// One thing that a device says when it comes online, if it applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Saying {
    /// The claim code, if there is one.
    ClaimCode,
    /// Size of the OTA region.
    MaxBinary,
    /// The chunk size that it would like.
    OtaChunkSize,
    /// The application does not run.
    SafeMode,
    /// Why it restarted, once. A real device says so only when its feature "keep reset information" is on.
    LastReset,
    /// It takes updates.
    UpdatesEnabled,
    /// Updates are not forced.
    UpdatesForced,
    /// The question for the time.
    Time,
    /// Subscriptions of system and application.
    Subscriptions,
}

/// Answer to a request for a variable that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UnknownVariable {
    /// 2.05 with an int: there is no way to say no, and the firmware reads one through a pointer to nothing. On the
    /// chip that is the first word of the flash; nobody has compared it with real hardware.
    Int,
    /// 4.04 in the acknowledgement, also where values come separately.
    NotFound,
}

use Saying as S;
const OLD: &[Saying] = &[S::ClaimCode, S::MaxBinary, S::OtaChunkSize, S::SafeMode, S::Subscriptions, S::Time];
const WITH_LAST_RESET: &[Saying] =
    &[S::ClaimCode, S::MaxBinary, S::OtaChunkSize, S::SafeMode, S::LastReset, S::Subscriptions, S::Time];
const NEW: &[Saying] =
    &[S::ClaimCode, S::MaxBinary, S::OtaChunkSize, S::SafeMode, S::LastReset, S::Time, S::Subscriptions];
const WITH_UPDATES: &[Saying] = &[
    S::ClaimCode,
    S::MaxBinary,
    S::OtaChunkSize,
    S::SafeMode,
    S::LastReset,
    S::UpdatesEnabled,
    S::UpdatesForced,
    S::Time,
    S::Subscriptions,
];

const V0_4_4: Firmware = Firmware {
    profile: "S1",
    release: "0.4.4",
    since: Some(0),
    link: LinkProfile::V0_4_9,
    transfer: TransferProfile::S1,
    configuration: Generation::V0_4_4,
    dependencies: DependencyRule::FirstOnly,
    full_dependencies: false,
    hello_flags: HelloFlags(0),
    introduction: OLD,
    system_subscriptions: &[PREFIX],
    describes_twice: true,
    unknown_variable: UnknownVariable::Int,
    says_goodbye: false,
    restarts_network: false,
    restores_factory: true,
    installs_stored: false,
    serial: SerialProfile::V0_4,
};

const V0_6_0: Firmware = Firmware {
    release: "0.6.0",
    since: Some(100),
    link: LinkProfile::V0_7_0,
    introduction: WITH_LAST_RESET,
    describes_twice: false,
    restores_factory: false,
    ..V0_4_4
};

const V0_7_0: Firmware = Firmware {
    profile: "S2",
    release: "0.7.0",
    since: Some(207),
    transfer: TransferProfile::S2,
    configuration: Generation::V0_7_0,
    dependencies: DependencyRule::Both,
    ..V0_6_0
};

const V0_8_0: Firmware = Firmware {
    release: "0.8.0",
    since: Some(300),
    link: LinkProfile::V0_8_0,
    hello_flags: HelloFlags::DIAGNOSTICS,
    introduction: NEW,
    system_subscriptions: &[PREFIX, PARTICLE_PREFIX],
    ..V0_7_0
};

const V1_2_0: Firmware =
    Firmware { profile: "C3", release: "1.2.0", since: Some(1200), transfer: TransferProfile::C3, ..V0_8_0 };

const V1_2_1: Firmware = Firmware {
    release: "1.2.1",
    since: Some(1210),
    hello_flags: HelloFlags::DIAGNOSTICS.union(HelloFlags::IMMEDIATE_UPDATES),
    introduction: WITH_UPDATES,
    installs_stored: true,
    ..V1_2_0
};

const V1_5_0: Firmware = Firmware {
    release: "1.5.0",
    since: Some(1500),
    link: LinkProfile::V1_5_0,
    unknown_variable: UnknownVariable::NotFound,
    ..V1_2_1
};

const V2_0_0: Firmware = Firmware {
    profile: "C4",
    release: "2.0.0",
    since: Some(2000),
    link: LinkProfile::V2_3_1,
    transfer: TransferProfile::C4,
    full_dependencies: true,
    hello_flags: V1_5_0.hello_flags.union(HelloFlags::GOODBYE),
    says_goodbye: true,
    restarts_network: true,
    serial: SerialProfile { diagnostics: false, ..SerialProfile::V2_0 },
    ..V1_5_0
};

/// Firmware of cellular devices, which speak UDP. Over TCP there is no such device; a server can be tested with it all
/// the same.
const C1: Firmware = Firmware {
    profile: "C1",
    release: "0.4.8",
    since: None,
    transfer: TransferProfile::C1,
    hello_flags: HelloFlags(0),
    ..V0_8_0
};

const C2: Firmware =
    Firmware { profile: "C2", release: "0.8.0-rc.9", since: None, transfer: TransferProfile::C2, ..V0_8_0 };

/// Every row: those of the Photon in order, then those of other devices.
static ROWS: [Firmware; 10] = [V0_4_4, V0_6_0, V0_7_0, V0_8_0, V1_2_0, V1_2_1, V1_5_0, V2_0_0, C1, C2];

/// Not the name of a profile or release.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name:?} is neither a profile (S1, S2, C1, C2, C3, C4) nor a release from 0.4.4 to 2.3.1")]
pub struct UnknownFirmware {
    /// What was asked for.
    pub name: String,
}

impl Firmware {
    /// The behaviour of a version of system part 2: 207 is 0.7.0, 2202 is 2.2.0.
    #[must_use]
    pub fn of(version: u16) -> &'static Self {
        let fits = |row: &&Self| row.since.is_some_and(|since| since <= version);
        ROWS.iter().rev().find(fits).unwrap_or(&ROWS[0])
    }

    /// Every row of the table.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &ROWS
    }

    /// By a profile's name, which stands for its first release, or by a release of the Photon, which has the behaviour
    /// of the last row that is not newer.
    ///
    /// C1 and C2 exist on real devices only over UDP; they are for testing servers.
    ///
    /// ```
    /// use spark_sim::Firmware;
    ///
    /// assert_eq!(Firmware::named("C3")?.release, "1.2.0");
    /// assert_eq!(Firmware::named("1.4.4")?.release, "1.2.1");
    /// assert!(Firmware::named("5.0.0").is_err());
    /// # Ok::<(), spark_sim::UnknownFirmware>(())
    /// ```
    ///
    /// # Errors
    /// [`UnknownFirmware`].
    pub fn named(name: &str) -> Result<&'static Self, UnknownFirmware> {
        let unknown = || UnknownFirmware { name: name.to_owned() };
        if let Some(row) = ROWS.iter().find(|row| row.profile.eq_ignore_ascii_case(name)) {
            return Ok(row);
        }
        let wanted: Release = name.parse().map_err(|()| unknown())?;
        let is_older = |row: &&Self| {
            row.since.is_some() && row.release.parse::<Release>().is_ok_and(|release| release <= wanted)
        };
        if wanted > Release([2, 3, 1]) {
            return Err(unknown());
        }
        ROWS.iter().rev().find(is_older).ok_or_else(unknown)
    }
}

impl fmt::Display for Firmware {
    /// `C3 (1.2.0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.profile, self.release)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Release([u16; 3]);

impl FromStr for Release {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let mut next = || parts.next().flatten().ok_or(());
        let release = [next()?, next()?, next()?];
        if parts.next().is_none() { Ok(Self(release)) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_found_by_the_version_of_part_2() {
        let cases = [
            (11, "0.4.4"),
            (108, "0.6.0"),
            (207, "0.7.0"),
            (1002, "0.8.0"),
            (1512, "1.5.0"),
            (2202, "2.0.0"),
        ];
        for (version, release) in cases {
            assert_eq!(Firmware::of(version).release, release, "{version}");
        }
        assert!(ROWS.iter().filter_map(|row| row.since).is_sorted());
    }

    #[test]
    fn rows_are_found_by_profile_and_by_release() {
        for row in &ROWS {
            assert_eq!(Firmware::named(row.profile).unwrap().profile, row.profile);
            if row.since.is_some() {
                assert_eq!(Firmware::named(row.release).unwrap(), row);
            }
        }
        for (name, release) in [
            ("S1", "0.4.4"),
            ("s2", "0.7.0"),
            ("C2", "0.8.0-rc.9"),
            ("0.6.4", "0.6.0"),
            ("1.1.1", "0.8.0"),
            ("2.3.1", "2.0.0"),
        ] {
            assert_eq!(Firmware::named(name).unwrap().release, release, "{name}");
        }
        for name in ["", "S3", "0.4.0", "2.3.2", "3.0.0", "1.2", "1.2.3.4", "1.x.0", "0.8.0-rc.9", "-1.0.0"] {
            assert_eq!(Firmware::named(name).unwrap_err().name, name);
        }
    }
}
