use super::*;
use crate::coap::{Token, Type};
use crate::message::{Envelope, FromDevice, FromServer, ResetReason};
use alloc::vec::Vec;
use hex_literal::hex;
use proptest::prelude::*;

/// Every row of the tables, with its name and data.
fn rows() -> Vec<(&'static str, &'static [u8], SystemEvent<'static>)> {
    use SystemEvent as E;
    let reset = |reason, detail| E::LastReset(LastReset { reason, detail });
    Vec::from([
        ("spark/device/claim/code", &b"0123456789abcdef"[..], E::ClaimCode(b"0123456789abcdef")),
        ("spark/device/ident/0", b"8934076500002589174", E::Identifier(b"8934076500002589174")),
        ("spark/hardware/max_binary", b"393216", E::MaxBinary(393_216)),
        ("spark/hardware/max_binary", b"4294967295", E::MaxBinary(u32::MAX)),
        ("spark/hardware/ota_chunk_size", b"512", E::OtaChunkSize(512)),
        ("spark/device/safemode", b"", E::SafeMode(b"")),
        ("spark/device/last_reset", b"power_down", reset(ResetReason::PowerDown, None)),
        ("spark/device/last_reset", b"user", reset(ResetReason::User, None)),
        ("spark/device/last_reset", b"panic, hard_fault", reset(ResetReason::Panic, Some(b"hard_fault"))),
        ("spark/device/last_reset", b"panic, 17", reset(ResetReason::Panic, Some(b"17"))),
        ("spark/device/last_reset", b"0", reset(ResetReason::Other(0), None)),
        ("spark/device/last_reset", b"141", reset(ResetReason::Other(141), None)),
        ("spark/device/ota_result", br#"{"r":"ok"}"#, E::OtaResult(br#"{"r":"ok"}"#)),
        ("spark/device/key/error", b"3", E::KeyErrors(3)),
        (
            "spark/cc3000-patch-version",
            b"1.32",
            E::SubsystemVersion { name: Name::new("spark/cc3000-patch-version"), version: b"1.32" },
        ),
        ("spark/device/name", b"crimson_beaver", E::DeviceName(b"crimson_beaver")),
        ("spark/device/ip", b"", E::DeviceIp(b"")),
        ("spark/device/random", &[0, 0xff], E::DeviceRandom(&[0, 0xff])),
        ("particle/device/updates/enabled", b"true", E::UpdatesEnabled(true)),
        ("particle/device/updates/forced", b"false", E::UpdatesForced(false)),
        ("particle/device/updates/pending", b"true", E::UpdatesPending(true)),
        (
            "spark/device/claim/success",
            b"x",
            E::Claimed { name: Name::new("spark/device/claim/success"), data: Some(b"x") },
        ),
        ("spark/device/reset", b"safe mode", E::Reset(ResetRequest::SafeMode)),
        ("spark/device/reset", b"dfu", E::Reset(ResetRequest::Dfu)),
        ("spark/device/reset", b"reboot", E::Reset(ResetRequest::Reboot)),
        ("spark/device/reset", b"network", E::Reset(ResetRequest::Network)),
        ("spark/device/reset", b"now", E::Reset(ResetRequest::Other(b"now"))),
        (
            "spark/device/key/restore",
            b"",
            E::KeyRestore { name: Name::new("spark/device/key/restore"), data: Some(b"") },
        ),
        ("spark/status", b"online", E::Status(DeviceStatus::Online)),
        ("spark/status", b"offline", E::Status(DeviceStatus::Offline)),
        ("spark/flash/status", b"started", E::FlashStatus(FlashStatus::Started)),
        ("spark/flash/status", b"success", E::FlashStatus(FlashStatus::Success)),
        ("spark/flash/status", b"failed", E::FlashStatus(FlashStatus::Failed)),
        ("spark/device/app-hash", b"AB12", E::AppHash(b"AB12")),
        ("spark/safe-mode-updater/updating", b"2", E::SafeModeUpdating(2)),
        ("temp", b"21.5", E::Other { name: Name::new("temp"), data: Some(b"21.5") }),
    ])
}

fn event<'a>(name: &'a str, data: &'a [u8]) -> Event<'a> {
    Event { name: Name::new(name), public: false, max_age: None, data: Some(data) }
}

#[test]
fn every_row_of_the_tables_goes_both_ways() {
    for (name, data, typed) in rows() {
        let expected = event(name, data);
        assert_eq!(SystemEvent::of(&expected), typed, "{name}");
        assert_eq!(typed.to_event(&mut [0; SystemEvent::DATA_LEN]), Ok(expected), "{name}");
    }
}

#[test]
fn names_mean_the_same_whole_and_in_segments() {
    for (_, _, typed) in rows() {
        let (mut data, mut out) = ([0; 64], [0; 128]);
        let event = typed.to_event(&mut data).unwrap();
        let (kind, id, token) = (Type::NonConfirmable, 1, Token::EMPTY);
        let body = FromDevice::Event(event);
        let whole = Envelope { kind, id, token, body }.encode_into(&mut out).unwrap();
        let FromDevice::Event(read) = Envelope::<FromDevice<'_>>::decode(whole).unwrap().body else {
            panic!("{typed:?}")
        };
        assert_eq!(comparable(SystemEvent::of(&read)), comparable(typed));
        let body = FromServer::Event(event);
        let split = Envelope { kind, id, token, body }.encode_into(&mut out).unwrap();
        let FromServer::Event(read) = Envelope::<FromServer<'_>>::decode(split).unwrap().body else {
            panic!("{typed:?}")
        };
        assert_eq!(comparable(SystemEvent::of(&read)), comparable(typed));
    }
}

/// Empty data is sent like none.
fn comparable(event: SystemEvent<'_>) -> SystemEvent<'_> {
    match event {
        SystemEvent::KeyRestore { name, data } => {
            SystemEvent::KeyRestore { name, data: data.filter(|data| !data.is_empty()) }
        }
        other => other,
    }
}

#[test]
fn recorded_event_has_its_meaning_and_its_bytes() {
    let bytes =
        hex!("5002000d b145 0d0a 737061726b2f6465766963652f6c6173745f7265736574 ff 706f7765725f646f776e");
    let message = Envelope::<FromDevice<'_>>::decode(&bytes).unwrap();
    let FromDevice::Event(event) = message.body else { panic!("{message:?}") };
    let meant = SystemEvent::LastReset(LastReset { reason: ResetReason::PowerDown, detail: None });
    assert_eq!(SystemEvent::of(&event), meant);
    let mut data = [0; SystemEvent::DATA_LEN];
    let body = FromDevice::Event(meant.to_event(&mut data).unwrap());
    assert_eq!(Envelope { body, ..message }.encode_into(&mut [0; 64]).unwrap(), bytes);
}

#[test]
fn data_of_another_form_is_an_event_like_any_other() {
    for (name, data) in [
        (CLAIM_CODE, &[b'a'; 64][..]),
        (MAX_BINARY, b"4294967296"),
        (MAX_BINARY, b""),
        (MAX_BINARY, b"+1"),
        (OTA_CHUNK_SIZE, b"0x200"),
        (KEY_ERROR, b"-1"),
        (LAST_RESET, b"sunspots"),
        (LAST_RESET, b""),
        (UPDATES_ENABLED, b"True"),
        ("spark/-version", b"1"),
        ("spark/a/b-version", b"1"),
        ("Spark/status", b"online"),
    ] {
        let event = event(name, data);
        let other = SystemEvent::Other { name: event.name, data: event.data };
        assert_eq!(SystemEvent::of(&event), other, "{name}");
    }
}

#[test]
fn claim_code_of_64_characters_is_not_sent() {
    let error = EncodeError::TooLarge { field: "claim code", limit: 63, found: 64 };
    assert_eq!(SystemEvent::ClaimCode(&[b'a'; 64]).to_event(&mut []), Err(error));
    assert!(SystemEvent::ClaimCode(&[b'a'; 63]).to_event(&mut []).is_ok());
}

#[test]
fn number_that_does_not_fit_is_an_error() {
    let short = WriteError::BufferTooSmall { needed: 3, available: 2 };
    assert_eq!(SystemEvent::MaxBinary(512).to_event(&mut [0; 2]), Err(EncodeError::Write(short)));
}

#[test]
fn every_name_below_the_claim_prefix_clears_the_code() {
    for (name, clears) in [
        ("spark/device/claim/code", true),
        ("spark/device/claim/", true),
        ("spark/device/claim/a/very/long/name/that/is/longer/than/the/buffer/for/names/is", true),
        ("spark/device/claim", false),
    ] {
        assert_eq!(SystemEvent::of(&event(name, b"")).clears_claim_code(), clears, "{name}");
    }
}

#[test]
fn system_names_depend_on_the_firmware() {
    for (name, old, new) in [
        ("spark/device/reset", true, true),
        ("sparkle", true, true),
        ("SPARK/x", true, false),
        ("particle/device", false, true),
        ("Particle", false, false),
        ("spar", false, false),
        ("", false, false),
    ] {
        assert_eq!(Name::new(name).is_system(SystemNames::SparkInAnyCase), old, "{name}");
        assert_eq!(Name::new(name).is_system(SystemNames::SparkOrParticle), new, "{name}");
    }
}

proptest! {
    #[test]
    fn reading_undoes_writing(name in "(spark|particle)/[a-z/-]{0,40}|spark/device/(reset|last_reset)",
        data in "[0-9]{0,10}|[a-z, ]{0,30}") {
        let first = event(&name, data.as_bytes());
        let mut out = [0; 64];
        let typed = SystemEvent::of(&first);
        let second = typed.to_event(&mut out).unwrap();
        prop_assert_eq!(SystemEvent::of(&second), typed);
        prop_assert_eq!(second.name, first.name);
    }
}
