//! Listening mode: the host's machines against the device's, and each against bytes.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use core::time::Duration;
use spark_ota::crc32;
use spark_ota::serial::{
    Ask, AskError, Cipher, Claimed, Credentials, CredentialsError, Facts, Flash, FlashFailure, Flashed,
    Identity, Listening, ListeningOutput, Mac, Profile, Prompt, Question, Security, Told, Version,
    WifiFailure, WifiSetup,
};
use spark_ota::ymodem::{Place, SenderFailure, SenderProfile};

const NOW: Duration = Duration::ZERO;
const ID: &str = "3a0027001747343338303599";
const MODULES: &str = r#"{"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":26,"f":"s","n":"2","v":207,"d":[]}]}"#;
const MAC: Mac = Mac([0x6c, 0x0b, 0x84, 0x12, 0x34, 0x56]);
const FACTS: Facts<'_> = Facts {
    device_id: ID,
    core: false,
    mac: MAC,
    modules: MODULES,
    version: "2.2.0",
    claimed: true,
    diagnostics: "{}",
};

/// A device, and what happened in it.
struct Console {
    machine: Listening,
    expected_crc: Option<u32>,
    flash: Vec<u8>,
    log: Vec<String>,
}

impl Console {
    fn new(profile: Profile) -> Self {
        let machine = Listening::new(profile, 10_000);
        Self { machine, expected_crc: None, flash: Vec::new(), log: Vec::new() }
    }

    fn drain(&mut self, now: Duration) -> Vec<u8> {
        let mut said = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            let result = match output {
                ListeningOutput::Send(bytes) => {
                    said.extend_from_slice(bytes);
                    continue;
                }
                ListeningOutput::Answer(question) => {
                    let mut text = String::new();
                    FACTS.write(question, &mut text).unwrap();
                    said.extend_from_slice(text.as_bytes());
                    continue;
                }
                ListeningOutput::Network(Credentials { ssid, security, cipher, password }) => {
                    let [ssid, password] = [ssid, password].map(String::from_utf8_lossy);
                    self.log.push(format!("network {ssid} {security:?} {cipher:?} {password}"));
                    if ssid == "lost" { Err(-1) } else { Ok(()) }
                }
                ListeningOutput::ClaimCode(code) => {
                    self.log.push(format!("claim code {}", String::from_utf8_lossy(code)));
                    continue;
                }
                ListeningOutput::Begin(_) => {
                    self.flash.clear();
                    Ok(())
                }
                ListeningOutput::Write { offset, data } => {
                    assert_eq!(usize::try_from(offset).unwrap(), self.flash.len());
                    self.flash.extend_from_slice(data);
                    Ok(())
                }
                ListeningOutput::Finish { length } => {
                    let image = &self.flash[..usize::try_from(length).unwrap()];
                    let good = self.expected_crc.is_none_or(|crc| crc == crc32(image));
                    if good { Ok(()) } else { Err(-241) }
                }
                other => {
                    self.log.push(format!("{other:?}"));
                    continue;
                }
            };
            self.machine.work_done(now, result);
        }
        said
    }

    fn give(&mut self, now: Duration, bytes: &[u8]) -> Vec<u8> {
        let mut said = self.drain(now);
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.machine.handle_input(now, rest);
            rest = &rest[used..];
            let more = self.drain(now);
            assert!(used > 0 || !more.is_empty(), "stuck");
            said.extend(more);
        }
        said
    }

    fn say(&mut self, bytes: &[u8]) -> String {
        String::from_utf8(self.give(NOW, bytes)).unwrap()
    }
}

fn ask(console: &mut Console, question: Question) -> Result<Vec<u8>, AskError> {
    let mut ask = Ask::<4096>::new(NOW, question);
    let letter = ask.poll_output().unwrap();
    let said = console.give(NOW, &[letter]);
    ask.handle_input(NOW, &said);
    ask.handle_deadline(ask.next_deadline().unwrap());
    ask.outcome().unwrap().map(<[u8]>::to_vec)
}

#[test]
fn devices_answer_in_their_very_words() {
    for (letter, expected) in [
        (b'i', format!("Your device id is {ID}\r\n")),
        (b'm', "Your device MAC address is\r\n6c:0b:84:12:34:56\r\n".to_owned()),
        (b'v', "system firmware version: 2.2.0\n\r\n".to_owned()),
        (b's', format!("{MODULES}\r\n")),
        (b'c', "Device claimed: yes\r\n".to_owned()),
        (b'd', "{}\r\n".to_owned()),
        (b'?', String::new()),
        (b'\n', String::new()),
    ] {
        assert_eq!(Console::new(Profile::V2_0).say(&[letter]), expected);
    }
    assert_eq!(Console::new(Profile::V0_4).say(b"d"), "", "it did not know that one");
    let mut core = String::new();
    Facts { core: true, claimed: false, ..FACTS }.write(Question::Identity, &mut core).unwrap();
    Facts { core: true, claimed: false, ..FACTS }.write(Question::Claimed, &mut core).unwrap();
    assert_eq!(core, format!("Your core id is {ID}\r\nDevice claimed: no\r\n"));
}

#[test]
fn hosts_understand_devices() {
    let mut console = Console::new(Profile::V2_0);
    let identity = ask(&mut console, Question::Identity).unwrap();
    assert_eq!(Identity::parse(&identity).unwrap().device_id, ID);
    assert_eq!(Mac::parse(&ask(&mut console, Question::Mac).unwrap()), Ok(MAC));
    assert_eq!(Version::parse(&ask(&mut console, Question::Version).unwrap()), Ok(Version("2.2.0")));
    assert_eq!(Claimed::parse(&ask(&mut console, Question::Claimed).unwrap()), Ok(Claimed(true)));
    let silent = AskError::Silent { question: Question::Diagnostics };
    assert_eq!(ask(&mut Console::new(Profile::V0_4), Question::Diagnostics), Err(silent));
}

#[cfg(feature = "describe")]
#[test]
fn inspections_tell_what_failed() {
    use spark_ota::serial::{Check, Inspection, InspectionError};

    let reply = ask(&mut Console::new(Profile::V2_0), Question::Modules).unwrap();
    let inspection = Inspection::parse(&reply).unwrap();
    let modules: Vec<_> = inspection.modules().collect();
    let results: Vec<_> =
        Check::ALL.iter().map(|check| (check.to_string(), modules[0].passes(*check))).collect();
    let expected = [
        ("Integrity", Some(true)),
        ("Address Range", Some(true)),
        ("Platform", Some(true)),
        ("Dependencies", Some(false)),
    ];
    assert_eq!(results, expected.map(|(name, passes)| (name.to_owned(), passes)));
    assert_eq!(modules[0].module().unwrap().version, 207);
    assert!(!modules[0].is_valid());
    for reply in [&b""[..], b"{", b"}{", b"{}", b"{\"p\":6}"] {
        assert_eq!(Inspection::parse(reply), Err(InspectionError::NoDocument));
    }
    assert!(matches!(Inspection::parse(b"{\"m\":7}"), Err(InspectionError::Document(_))));
}

#[test]
fn leaving_and_restarting() {
    let mut console = Console::new(Profile::V2_0);
    assert_eq!(console.say(b"xL"), "");
    assert_eq!(console.log, ["Leave", "Restart { listening: true }"]);
}

#[test]
fn claim_codes_have_63_characters() {
    let mut console = Console::new(Profile::V2_0);
    let code = "c".repeat(63);
    assert!(console.say(format!("C{code}\r\n").as_bytes()).contains("code: "));
    assert_eq!(console.log, [format!("claim code {code}")]);
    for code in ["", "short", &"c".repeat(62), &"c".repeat(70)] {
        let mut console = Console::new(Profile::V2_0);
        assert!(console.say(format!("C{code}\n").as_bytes()).contains("unchanged"), "{code}");
        assert!(console.log.is_empty());
        assert!(console.say(b"i").contains(ID), "and it listens again");
    }
}

// ---- Wi-Fi

const HOME: Credentials<'_> = Credentials {
    ssid: b"Home: 2",
    security: Security::Wpa2,
    cipher: Cipher::AesTkip,
    password: b"top secret",
};

#[test]
fn dialogue_in_full() {
    let mut console = Console::new(Profile::V2_0);
    assert_eq!(console.say(b"w"), "SSID: ");
    assert_eq!(console.say(b"Homr\x08e\r"), "Homr\x08 \x08e\r\nSecurity 0=unsecured, 1=WEP, 2=WPA, 3=WPA2: ");
    assert_eq!(
        console.say(b"\n3\n"),
        "3\r\nSecurity Cipher 1=AES, 2=TKIP, 3=AES+TKIP: ",
        "CR LF is one line end"
    );
    assert_eq!(console.say(b"1\n"), "1\r\nPassword: ");
    let end = console.say(b"12345678\n");
    assert!(end.contains("Thanks") && end.contains("<3 you!"), "{end}");
    assert_eq!(console.log, ["network Home Wpa2 Aes 12345678", "Leave"]);
    assert!(!format!("{:?}", console.machine).contains("12345678"));
}

#[test]
fn dialogue_repeats_what_was_answered_wrongly_and_skips_what_does_not_apply() {
    let mut console = Console::new(Profile::V0_4);
    assert_eq!(console.say(b"w\n"), "SSID: \r\nSSID: ", "empty");
    let security = "Security 0=unsecured, 1=WEP, 2=WPA, 3=WPA2: ";
    let long = "n".repeat(33);
    assert_eq!(console.say(format!("{long}\n").as_bytes()), format!("{long}\r\nSSID: "));
    assert!(console.say(b"net\n").ends_with(security));
    assert!(console.say(b"7\n").ends_with(security) && console.say(b"33\n").ends_with(security));
    assert!(console.say(b"0\n").contains("Thanks"));
    assert_eq!(console.log, ["network net Open Aes ", "Leave"]);

    let mut console = Console::new(Profile::V0_4);
    assert!(console.say(b"wnet\n1\n").ends_with("1\r\nPassword: "), "WEP has no cipher");
    console.say(b"abcde\n");
    assert_eq!(console.log[0], "network net Wep Aes abcde");

    let mut console = Console::new(Profile::V0_4);
    assert!(console.say(b"wnet\n2\n9\n").ends_with("9\r\nSecurity Cipher 1=AES, 2=TKIP, 3=AES+TKIP: "));
}

/// Runs a set-up against a device, `lag` for each word on the way.
fn set_up(console: &mut Console, credentials: Credentials<'_>) -> Result<(), WifiFailure> {
    let mut setup = WifiSetup::new(NOW, credentials).unwrap();
    let mut now = NOW;
    loop {
        let sent = setup.poll_output().map(<[u8]>::to_vec).unwrap_or_default();
        // Character by character, as it is typed and echoed.
        for byte in sent {
            now += Duration::from_millis(5);
            for said in console.give(now, &[byte]) {
                assert_eq!(setup.handle_input(now, &[said]), 1);
            }
        }
        if let Some(outcome) = setup.outcome() {
            return outcome;
        }
        let deadline = setup.next_deadline().unwrap();
        setup.handle_deadline(deadline - Duration::from_nanos(1));
        now = deadline;
        setup.handle_deadline(now);
    }
}

#[test]
fn hosts_give_networks_to_devices() {
    let open = Credentials { security: Security::Open, password: b"", ..HOME };
    let wep = Credentials { security: Security::Wep, password: b"abcde", ..HOME };
    let wpa = Credentials { security: Security::Wpa, cipher: Cipher::Tkip, ..HOME };
    // Their echoes look like prompts, or like the end.
    let tricky = Credentials { ssid: b"Password:", password: b"Security Cipher 1:", ..HOME };
    let thanks = Credentials { ssid: b"Thanks-Net", password: b"Particle <3 you!", ..HOME };
    let awesome = Credentials { ssid: b"Awesome", password: b"Derp. Sorry", ..HOME };
    for (credentials, expected) in [
        (HOME, "network Home: 2 Wpa2 AesTkip top secret"),
        (open, "network Home: 2 Open Aes "),
        (wep, "network Home: 2 Wep Aes abcde"),
        (wpa, "network Home: 2 Wpa Tkip top secret"),
        (tricky, "network Password: Wpa2 AesTkip Security Cipher 1:"),
        (thanks, "network Thanks-Net Wpa2 AesTkip Particle <3 you!"),
        (awesome, "network Awesome Wpa2 AesTkip Derp. Sorry"),
    ] {
        let mut console = Console::new(Profile::V2_0);
        assert_eq!(set_up(&mut console, credentials), Ok(()));
        assert_eq!(console.log, [expected, "Leave"]);
    }
}

#[test]
fn network_that_could_not_be_saved_is_a_failure() {
    let mut console = Console::new(Profile::V2_0);
    assert_eq!(set_up(&mut console, Credentials { ssid: b"lost", ..HOME }), Err(WifiFailure::NotSaved));
    assert_eq!(console.log, ["network lost Wpa2 AesTkip top secret"], "it goes on listening");
    assert_eq!(set_up(&mut console, HOME), Ok(()));
}

#[test]
fn hosts_give_up_on_devices_that_do_not_play() {
    let end = |words: &[&str]| {
        let mut setup = WifiSetup::new(NOW, HOME).unwrap();
        let mut words = words.iter();
        let mut now = NOW;
        while setup.outcome().is_none() {
            if setup.poll_output().is_some()
                && let Some(words) = words.next()
            {
                setup.handle_input(now, words.as_bytes());
            }
            now = now.max(setup.next_deadline().unwrap());
            setup.handle_deadline(now);
        }
        (setup.outcome().unwrap(), now.as_secs())
    };
    assert_eq!(end(&[]), (Err(WifiFailure::NotAsked), 5));
    assert_eq!(end(&["what?"]), (Err(WifiFailure::NotAsked), 5));
    assert_eq!(end(&["Thanks!"]).0, Err(WifiFailure::NotAsked), "nothing was given");
    assert_eq!(end(&["SSID: ", ""]).0, Err(WifiFailure::Silent { after: Prompt::Ssid }));
    let newer =
        ["SSID: ", "x\r\nSecurity 0=unsecured, 1=WEP, 2=WPA, 3=WPA2, 4=WPA Enterprise, 5=WPA2 Enterprise: "];
    assert_eq!(
        end(&newer).0,
        Err(WifiFailure::Silent { after: Prompt::Security }),
        "that prompt is known, too"
    );
    assert_eq!(end(&["SSID: "; 9]).0, Err(WifiFailure::NotTaken { prompt: Prompt::Ssid }));
    let thanks = "\r\nThanks! Wait while I save those credentials...\r\n";
    assert_eq!(end(&["SSID: ", "\r\nPassword: ", thanks]), (Err(WifiFailure::Unconfirmed), 10));
    let lost = [thanks, "Derp. Sorry, we couldn't save the credentials.\r\n"].concat();
    assert_eq!(end(&["SSID: ", "\r\nPassword: ", &lost]).0, Err(WifiFailure::NotSaved));
    assert_eq!(
        end(&["SSID: ", "\r\nPassword: ", "\r\nParticle <3 you!\r\n"]).0,
        Ok(()),
        "it knows the rest by itself"
    );
}

#[test]
fn credentials_are_checked_before_anything_is_sent() {
    let long = [b'x'; 65];
    let check = |credentials: Credentials<'_>| WifiSetup::new(NOW, credentials).map(|_| ()).unwrap_err();
    assert_eq!(check(Credentials { ssid: b"", ..HOME }), CredentialsError::Ssid { length: 0 });
    assert_eq!(check(Credentials { ssid: &long[..33], ..HOME }), CredentialsError::Ssid { length: 33 });
    for (security, password) in [
        (Security::Open, &b"x"[..]),
        (Security::Wep, b"four"),
        (Security::Wpa, b"seven77"),
        (Security::Wpa2, &long),
    ] {
        let error = check(Credentials { security, password, ..HOME });
        assert!(matches!(error, CredentialsError::Password { .. }), "{error}");
    }
    let error = check(Credentials { password: b"with\nline end", ..HOME });
    assert_eq!(error, CredentialsError::Control { what: "the password" });
    assert!(!format!("{:?}{:?}", HOME, WifiSetup::new(NOW, HOME).unwrap()).contains("secret"));
}

// ---- firmware

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// Flashes and gives result, last words, and the time it took.
fn flash(
    console: &mut Console,
    image: &[u8],
    noise: &dyn Fn(usize, &mut Vec<u8>),
) -> (Result<Flashed, FlashFailure>, String, Duration) {
    let mut flash = Flash::new(NOW, image, SenderProfile::PARTICLE).unwrap();
    let mut now = NOW;
    let mut count = 0;
    loop {
        let mut said = console.drain(now);
        while let Some(bytes) = flash.poll_output(now) {
            let mut bytes = bytes.to_vec();
            noise(count, &mut bytes);
            count += 1;
            said.extend(console.give(now, &bytes));
        }
        if !said.is_empty() {
            assert_eq!(flash.handle_input(now, &said), said.len());
            continue;
        }
        if let Some(outcome) = flash.outcome() {
            return (outcome, String::from_utf8_lossy(flash.said()).into_owned(), now);
        }
        let deadlines = [flash.next_deadline(), console.machine.next_deadline()];
        now = now.max(deadlines.into_iter().flatten().min().unwrap());
        flash.handle_deadline(now);
        console.machine.handle_deadline(now);
    }
}

#[test]
fn hosts_flash_devices() {
    for profile in [Profile::V0_4, Profile::V2_0] {
        for len in [1, 1023, 1024, 9000] {
            let mut console = Console::new(profile);
            let file = image(len);
            console.expected_crc = Some(crc32(&file));
            let (outcome, said, took) = flash(&mut console, &file, &|_, _| ());
            assert_eq!(outcome, Ok(Flashed { confirmed: true }));
            assert_eq!(
                said,
                format!(
                    "\r\nDownloaded file successfully!\r\nName: binary\r\nSize: {len} bytes\r\n\r\n\
                     Restarting system to apply firmware update...\r\n"
                )
            );
            assert_eq!(console.flash[..len], file);
            assert_eq!(console.log, ["Restart { listening: false }"]);
            assert!(took <= Duration::from_secs(1), "{took:?}");
        }
    }
}

#[test]
fn a_device_that_waits_for_a_file_already_asks_for_it() {
    let mut console = Console::new(Profile::V2_0);
    console.machine.receive(NOW);
    assert!(console.machine.is_receiving());
    let file = image(3000);
    console.expected_crc = Some(crc32(&file));
    // The letter counts as an error there.
    assert_eq!(flash(&mut console, &file, &|_, _| ()).0, Ok(Flashed { confirmed: true }));
}

#[test]
fn devices_tell_why_they_refuse() {
    let file = image(3000);
    let damage = |count: usize, bytes: &mut Vec<u8>| {
        if count == 3 {
            bytes[500] ^= 1;
        }
    };
    let abort = |count: usize, bytes: &mut Vec<u8>| {
        if count == 3 {
            *bytes = b"a".to_vec();
        }
    };
    let at_last = SenderFailure::CancelledByReceiver { place: Place::LastPacket };
    let at_header = SenderFailure::CancelledByReceiver { place: Place::Header };
    let at_block = SenderFailure::CancelledByReceiver { place: Place::Block(2) };

    let mut console = Console::new(Profile::V2_0);
    console.expected_crc = Some(crc32(&file));
    let (outcome, said, _) = flash(&mut console, &file, &damage);
    let told = Told::Invalid { code: -241 };
    assert_eq!(outcome, Err(FlashFailure::Refused { told, transfer: Some(at_last) }));
    assert!(said.contains("Validation failed: -241"));
    assert!(console.log.is_empty() && !console.machine.is_receiving());

    // Firmware before 2.x has acknowledged already.
    let mut console = Console::new(Profile::V0_4);
    console.expected_crc = Some(crc32(&file));
    let told = Told::NotReceived;
    assert_eq!(flash(&mut console, &file, &damage).0, Err(FlashFailure::Refused { told, transfer: None }));

    let told = Told::TooLong;
    let outcome = flash(&mut Console::new(Profile::V2_0), &image(10_001), &|_, _| ()).0;
    assert_eq!(outcome, Err(FlashFailure::Refused { told, transfer: Some(at_header) }));

    let told = Told::Aborted;
    let outcome = flash(&mut Console::new(Profile::V2_0), &file, &abort).0;
    assert_eq!(outcome, Err(FlashFailure::Refused { told, transfer: Some(at_block) }));
}

#[test]
fn a_device_that_resets_at_once_has_taken_the_image() {
    let mut flash = Flash::new(NOW, [1; 10], SenderProfile::PARTICLE).unwrap();
    for answer in [&b"x"[..], b"\x06C", b"\x06", b"\x06", b"\x06"] {
        assert!(flash.poll_output(NOW).is_some());
        flash.handle_input(NOW, answer);
        if answer == b"x" {
            flash.handle_input(NOW, b"C");
        }
    }
    flash.handle_close(NOW);
    assert_eq!(flash.outcome(), Some(Ok(Flashed { confirmed: false })));

    let mut flash = Flash::new(NOW, [1; 10], SenderProfile::PARTICLE).unwrap();
    flash.poll_output(NOW);
    flash.handle_close(NOW);
    let closed = SenderFailure::Closed { place: Place::Start };
    assert_eq!(flash.outcome(), Some(Err(FlashFailure::Transfer(closed))));
}

#[test]
fn devices_that_do_not_listen_are_left_alone() {
    let mut flash = Flash::new(NOW, [1; 10], SenderProfile::PARTICLE).unwrap();
    assert_eq!(flash.poll_output(NOW), Some(&b"f"[..]));
    flash.handle_input(NOW, b"\r\nsomething else\r\n");
    assert_eq!(flash.poll_output(NOW), None);
    flash.handle_deadline(Duration::from_secs(10));
    assert_eq!(flash.poll_output(NOW), Some(&[0x18, 0x18][..]));
    while flash.outcome().is_none() {
        let deadline = flash.next_deadline().unwrap();
        flash.handle_deadline(deadline);
    }
    assert_eq!(flash.outcome(), Some(Err(FlashFailure::Transfer(SenderFailure::NotAsked))));
}

#[test]
fn devices_survive_any_bytes() {
    // Every byte in every state: nothing hangs, and listening goes on.
    for prefix in [&b""[..], b"w", b"wnet\n", b"wnet\n3\n", b"wnet\n3\n1\n", b"C", b"f"] {
        for byte in 0..=255_u8 {
            let mut console = Console::new(Profile::V2_0);
            console.give(NOW, prefix);
            console.give(NOW, &[byte; 300]);
        }
    }
}
