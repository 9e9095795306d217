use super::*;
use crate::sonoff::http::PathError;
use crate::sonoff::text::TextError;
use alloc::format;
use alloc::vec;
use proptest::prelude::*;

const DIGEST: &str = "a5885cf13bac84da5930f74d26e9bac91eb6967d6b3c5d79ba7778bd45ea1eb7";

fn device() -> Registered {
    Registered {
        model: Model::new("ITA-GZ1-GL").unwrap(),
        rom_version: Version::new("2.0.4").unwrap(),
        dated: true,
        upgrading: false,
        address: Some([192, 168, 77, 20].into()),
    }
}

fn offer() -> Offer {
    let candidate = |slot: Slot| Candidate {
        slot,
        url: format!("http://192.168.77.10:8080/ota/{}", slot.file_name()),
        digest: DIGEST.into(),
        size: 104_276,
        format: Format::V2,
        linked_for: Some(slot),
    };
    Offer::new("ITA-GZ1-GL", Slot::ALL.map(candidate).to_vec())
}

fn refusals(change: impl FnOnce(&mut Offer)) -> Vec<Refusal> {
    let mut offer = offer();
    change(&mut offer);
    offer.check(&device()).map_or_else(|refusals| refusals, |_| vec![])
}

fn warnings(url: &str, address: Option<IpAddr>) -> Vec<Warning> {
    let mut offer = offer();
    for candidate in &mut offer.candidates {
        candidate.url = url.into();
    }
    let checked = offer.check(&Registered { address, ..device() }).unwrap();
    checked.warnings.into_iter().step_by(2).collect()
}

#[test]
fn good_offer_becomes_a_message_without_warnings() {
    let checked = offer().check(&device()).unwrap();
    assert_eq!(checked.warnings, []);
    let names: Vec<_> = checked.upgrade.bin_list.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["user1.bin", "user2.bin"]);
    assert_eq!((checked.upgrade.version.as_str(), checked.upgrade.auto_restart), ("9.9.9", Some(true)));
}

#[test]
fn both_slots_are_needed_unless_the_running_one_is_known() {
    let slot = Slot::User2;
    assert_eq!(refusals(|offer| offer.candidates.truncate(1)), [Refusal::NoImage { slot }]);
    let known = |running| {
        refusals(|offer| {
            offer.candidates.remove(0);
            offer.running = running;
        })
    };
    assert_eq!(known(Some(Slot::User1)), []);
    assert_eq!(known(Some(Slot::User2)), [Refusal::NoImage { slot: Slot::User1 }]);
    let twice = refusals(|offer| offer.candidates[0].slot = slot);
    let wrong = Refusal::WrongSlot { slot, found: Slot::User1 };
    assert_eq!(twice, [Refusal::NoImage { slot: Slot::User1 }, Refusal::TwoImages { slot }, wrong]);
}

#[test]
fn images_that_cannot_start_or_be_fetched_are_refused() {
    let slot = Slot::User1;
    let size = |size: u32, answers_ranges| {
        refusals(|offer| {
            offer.candidates[0].size = size;
            offer.answers_ranges = answers_ranges;
        })
    };
    assert_eq!(size(0, true), [Refusal::Empty { slot }]);
    assert_eq!(size(1, true), []);
    assert_eq!(size(4096, false), [Refusal::OneChunk { slot, size: 4096 }]);
    assert_eq!(size(4097, false), []);
    assert_eq!(size(471_040, true), []);
    let too_large = Refusal::TooLarge { slot, size: 471_041, limit: 471_040 };
    assert_eq!(size(471_041, true), [too_large]);
    let found = Format::V1;
    assert_eq!(refusals(|offer| offer.candidates[0].format = found), [Refusal::Format { slot, found }]);
    let wrong = Refusal::WrongSlot { slot, found: Slot::User2 };
    assert_eq!(refusals(|offer| offer.candidates[0].linked_for = Some(Slot::User2)), [wrong]);
}

#[test]
fn urls_are_cut_as_devices_do_it() {
    fn problem(url: &str) -> Result<(&str, u16), UrlProblem> {
        UrlParts::new(url).map(|parts| (parts.host, parts.port))
    }
    assert_eq!(problem("http://a/b"), Ok(("a", 80)));
    assert_eq!(problem("http://my-server_1.local:65535/"), Ok(("my-server_1.local", 65535)));
    let host = "h".repeat(49);
    let path = format!("/{}", "p".repeat(86));
    let longest = format!("http://{host}:8080{path}x");
    assert_eq!(longest.len(), 149);
    assert_eq!(problem(&longest), Ok((&host[..], 8080)));
    let too_long = UrlProblem::TooLong { length: 150, limit: 149 };
    assert_eq!(problem(&format!("{longest}y")), Err(too_long));
    let too_long = UrlProblem::HostTooLong { length: 50, limit: 49 };
    assert_eq!(problem(&format!("http://{host}h/")), Err(too_long));
    let path = PathError::TooLong { length: 100, limit: 99 };
    assert_eq!(problem(&format!("http://a/{}", "p".repeat(99))), Err(UrlProblem::Path(path)));
    assert!(problem(&format!("http://a/{}", "p".repeat(98))).is_ok());
    let at = |at| Err(UrlProblem::Path(PathError::Character { at }));
    for (url, expected) in [
        ("https://a/b", Err(UrlProblem::Scheme)),
        ("HTTP://a/b", Err(UrlProblem::Scheme)),
        ("", Err(UrlProblem::Scheme)),
        ("http://a", Err(UrlProblem::NoPath)),
        ("http:///b", Err(UrlProblem::NoHost)),
        ("http://:80/b", Err(UrlProblem::NoHost)),
        ("http://a:/b", Err(UrlProblem::Port)),
        ("http://a:0/b", Err(UrlProblem::Port)),
        ("http://a:65536/b", Err(UrlProblem::Port)),
        ("http://a:+80/b", Err(UrlProblem::Port)),
        ("http://a:80:81/b", Err(UrlProblem::Port)),
        ("http://me@a/b", Err(UrlProblem::Host)),
        ("http://[::1]/b", Err(UrlProblem::Port)),
        ("http://a/b?c", at(2)),
        ("http://a/b:8", at(2)),
        ("http://a/b c", at(2)),
    ] {
        assert_eq!(problem(url), expected, "{url}");
    }
    let slot = Slot::User2;
    let refused = refusals(|offer| offer.candidates[1].url = "https://a/b".into());
    assert_eq!(refused, [Refusal::Url { slot, problem: UrlProblem::Scheme }]);
}

#[test]
fn digest_model_and_version_are_compared_as_text() {
    for digest in ["", &DIGEST[1..], &format!("{DIGEST}0"), &DIGEST.to_uppercase(), &DIGEST.replace('a', "g")]
    {
        let refused = refusals(|offer| offer.candidates[0].digest = digest.into());
        assert_eq!(refused, [Refusal::Digest { slot: Slot::User1 }], "{digest}");
    }
    let model = Refusal::Model { device: device().model };
    assert_eq!(refusals(|offer| offer.model = "ita-gz1-gl".into()), [model]);
    assert_eq!(refusals(|offer| offer.version = "23.42.5".into()), []);
    for version in ["10.0.0", "2.0.4", "2.0.45", "1.9"] {
        let refused = refusals(|offer| offer.version = version.into());
        assert!(matches!(refused[..], [Refusal::NotNewer { .. }]), "{version}");
    }
    assert_eq!(refusals(|offer| offer.version.clear()), [Refusal::Version(TextError::Empty)]);
}

#[test]
fn device_must_be_ready_and_idle_and_all_reasons_are_told() {
    let mut device = device();
    (device.dated, device.upgrading) = (false, true);
    assert_eq!(offer().check(&device), Err(vec![Refusal::NotReady, Refusal::Upgrading]));
    let mut empty = offer();
    empty.candidates.clear();
    assert_eq!(empty.check(&device).unwrap_err().len(), 4);
}

#[test]
fn hosts_that_the_device_may_not_reach_are_warned_of() {
    let device = || Some(IpAddr::from([192, 168, 77, 20]));
    let slot = Slot::User1;
    let here = "http://127.0.0.1:8080/a";
    assert_eq!(warnings(here, device()), [Warning::Loopback { slot }]);
    assert_eq!(warnings("http://localhost/a", None), [Warning::Loopback { slot }]);
    assert_eq!(warnings(here, Some([127, 0, 0, 2].into())), []);
    let host = Ipv4Addr::new(192, 168, 4, 2);
    let other = Warning::OtherNetwork { slot, host, device: Ipv4Addr::new(192, 168, 77, 20) };
    assert_eq!(warnings("http://192.168.4.2/a", device()), [other]);
    assert_eq!(warnings("http://192.168.4.2/a", Some("::ffff:192.168.77.20".parse().unwrap())), [other]);
    assert_eq!(warnings("http://192.168.4.2/a", None), []);
    assert_eq!(warnings("http://server.local/a", device()), [Warning::Name { slot }]);
    let host = Ipv4Addr::UNSPECIFIED;
    assert_eq!(warnings("http://0.0.0.0/a", device()), [Warning::NoHost { slot, host }]);
    let mut unknown = offer();
    unknown.candidates.iter_mut().for_each(|candidate| candidate.linked_for = None);
    let warnings = unknown.check(&self::device()).unwrap().warnings;
    assert_eq!(warnings, Slot::ALL.map(|slot| Warning::SlotUnknown { slot }));
}

#[test]
fn codes_keep_their_numbers() {
    for code in [0, 400, 404, 406, 409, 410, 999] {
        assert_eq!(UpgradeCode::new(code).code(), code);
    }
    assert_eq!(UpgradeCode::new(411), UpgradeCode::Model);
    assert_eq!(format!("{}", UpgradeCode::Download), "the download failed (404)");
    for slot in Slot::ALL {
        assert_eq!((Slot::from_file_name(slot.file_name()), slot.other().other()), (Some(slot), slot));
    }
}

proptest! {
    #[test]
    fn urls_that_pass_are_what_a_device_puts_together(url in "(http://)?[a-z0-9.:/?@-]{0,170}") {
        if let Ok(parts) = UrlParts::new(&url) {
            let with_port = format!("http://{}:{}{}", parts.host, parts.port, parts.path);
            let without = format!("http://{}{}", parts.host, parts.path);
            let leading_zeros = url.contains(":0");
            prop_assert!(url == with_port || url == without || leading_zeros);
        }
    }
}
