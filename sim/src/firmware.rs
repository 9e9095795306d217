//! What the system firmware of each release does, as one table: the version of system part 2 decides.

use coap_spark::connection::Profile as LinkProfile;
use spark_dct::wiced::Generation;
use spark_ota::module::DependencyRule;
use spark_ota::transfer::Profile as TransferProfile;

/// Behaviour of one range of releases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Firmware {
    /// First version of system part 2 with this behaviour.
    pub since: u16,
    /// Its release.
    pub release: &'static str,
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
    pub hello_flags: u8,
    /// The result of an update is a number instead of a word.
    pub numeric_result: bool,
}

const V0_4_4: Firmware = Firmware {
    since: 0,
    release: "0.4.4",
    link: LinkProfile::V0_7_0,
    transfer: TransferProfile::S1,
    configuration: Generation::V0_4_4,
    dependencies: DependencyRule::FirstOnly,
    full_dependencies: false,
    hello_flags: 0x00,
    numeric_result: false,
};

const V0_7_0: Firmware = Firmware {
    since: 207,
    release: "0.7.0",
    transfer: TransferProfile::S2,
    configuration: Generation::V0_7_0,
    dependencies: DependencyRule::Both,
    ..V0_4_4
};

const V0_8_0: Firmware =
    Firmware { since: 300, release: "0.8.0", link: LinkProfile::V0_8_0, hello_flags: 0x02, ..V0_7_0 };

const V1_2_0: Firmware = Firmware { since: 1200, release: "1.2.0", transfer: TransferProfile::C3, ..V0_8_0 };

const V1_2_1: Firmware = Firmware { since: 1210, release: "1.2.1", hello_flags: 0x06, ..V1_2_0 };

const V1_5_0: Firmware = Firmware { since: 1500, release: "1.5.0", link: LinkProfile::V1_5_0, ..V1_2_1 };

const V2_0_0: Firmware = Firmware {
    since: 2000,
    release: "2.0.0",
    link: LinkProfile::V2_3_1,
    transfer: TransferProfile::C4,
    full_dependencies: true,
    hello_flags: 0x16,
    numeric_result: true,
    ..V1_5_0
};

/// Where the behaviour changed, in order.
const RELEASES: [Firmware; 7] = [V0_4_4, V0_7_0, V0_8_0, V1_2_0, V1_2_1, V1_5_0, V2_0_0];

impl Firmware {
    /// The behaviour of a version of system part 2: 207 is 0.7.0, 2202 is 2.2.0.
    #[must_use]
    pub fn of(version: u16) -> &'static Self {
        RELEASES.iter().rev().find(|release| release.since <= version).unwrap_or(&RELEASES[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_found_by_the_version_of_part_2() {
        let cases = [
            (11, "0.4.4"),
            (108, "0.4.4"),
            (207, "0.7.0"),
            (1002, "0.8.0"),
            (1512, "1.5.0"),
            (2202, "2.0.0"),
        ];
        for (version, release) in cases {
            assert_eq!(Firmware::of(version).release, release, "{version}");
        }
        assert!(RELEASES.is_sorted_by_key(|release| release.since));
    }
}
