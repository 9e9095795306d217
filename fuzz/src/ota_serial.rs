//! `spark-ota`: YMODEM and listening mode, both ends of each.

use crate::input::Input;
use core::time::Duration;
use spark_ota::serial::{
    Ask, BaudTrigger, Cipher, Claimed, Credentials, Facts, Flash, Identity, Inspection, Listening,
    ListeningOutput, Mac, Profile, Question, Security, Version, WifiSetup,
};
use spark_ota::ymodem::{
    BlockSize, Header, Receiver, ReceiverOutput, ReceiverProfile, Sender, SenderProfile, crc16,
};

const RECEIVERS: [ReceiverProfile; 4] =
    [ReceiverProfile::V0_4, ReceiverProfile::V2_0, ReceiverProfile::STANDARD, ReceiverProfile::STRICT];

/// Any words of a receiver: packets are the file's, in their order, and without further words the transfer ends.
pub fn ymodem_sender(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let block_size = if choice & 1 == 0 { BlockSize::Small } else { BlockSize::Large };
    let base = if choice & 2 == 0 { SenderProfile::PARTICLE } else { SenderProfile::STANDARD };
    let profile = SenderProfile { block_size, checksums: choice & 4 != 0, ..base };
    let file: Vec<u8> = (0..input.word() % 5000).map(|i| (i % 251) as u8).collect();
    let mut now = Duration::ZERO;
    let Ok(mut sender) = Sender::new(now, "fuzz", &file, profile) else { panic!("that name is good") };
    let mut taken = 0;
    let mut next = 0;
    let poll = |sender: &mut Sender<&Vec<u8>>, now, next: &mut usize| {
        let before = sender.progress().taken as usize;
        let mut steps = 0;
        while let Some(packet) = sender.poll_output(now).map(<[u8]>::to_vec) {
            steps += 1;
            assert!(steps < 4, "outputs do not end");
            let [start @ (1 | 2), number, inverted, rest @ ..] = &packet[..] else {
                assert!(packet == [4] || packet == [0x18, 0x18]);
                assert!(packet != [4] || before == file.len(), "the end before the end");
                continue;
            };
            let size = BlockSize::from_start(*start).expect("a size").bytes();
            assert_eq!((!number, rest.len()), (*inverted, size + 2));
            let (body, crc) = rest.split_at(size);
            let expected = if profile.checksums { crc16(body) } else { 0 };
            assert_eq!(crc, expected.to_be_bytes());
            if *number == 0 && (before == 0 || before == file.len()) {
                let header = Header::parse(body);
                assert!(header.name.is_empty() || header.name == b"fuzz");
                continue;
            }
            let own = &file[before..(before + size).min(file.len())];
            assert_eq!(&body[..own.len()], own, "another part of the file");
            assert!(body[own.len()..].iter().all(|byte| *byte == 0));
            *next = before + own.len();
        }
    };
    while !input.is_empty() && sender.outcome().is_none() {
        match input.byte() {
            0 => {
                now += Duration::from_millis(u64::from(input.word()));
                sender.handle_deadline(now);
            }
            1 => sender.start(),
            2 => sender.cancel(),
            3 => {
                let words = input.block();
                let used = sender.handle_input(now, words);
                assert!(used == words.len() || sender.outcome().is_some());
            }
            word => {
                sender.handle_input(now, &[word]);
            }
        }
        poll(&mut sender, now, &mut next);
        let progress = sender.progress();
        assert!(progress.taken >= taken && progress.taken as usize <= next && next <= file.len());
        taken = progress.taken;
    }
    if sender.outcome() == Some(Ok(())) {
        assert_eq!(taken as usize, file.len(), "a success with half of the file");
    }
    for _ in 0..100 {
        let Some(deadline) = sender.next_deadline() else { break };
        now = now.max(deadline);
        sender.handle_deadline(now);
        poll(&mut sender, now, &mut next);
    }
    assert!(sender.outcome().is_some(), "a silent receiver keeps the transfer open");
}

/// Any bytes of a sender, with luck of all kinds: a file is written from its start without gaps and within its limit, and
/// a silent sender is left. Bytes from 0x80 on begin a packet that is right in itself.
pub fn ymodem_receiver(data: &[u8]) {
    let mut input = Input::new(data);
    let profile = RECEIVERS[usize::from(input.byte() % 4)];
    let limit = u32::from(input.word());
    let mut now = Duration::ZERO;
    let mut receiver = Receiver::new(now, profile, limit);
    let (mut written, mut announced, mut luck) = (0_u32, None, 0_u8);
    let mut drain = |receiver: &mut Receiver, now, luck: u8| {
        let mut steps = 0;
        while let Some(output) = receiver.poll_output() {
            steps += 1;
            assert!(steps < 8, "outputs do not end");
            let done = match output {
                ReceiverOutput::Send(bytes) => {
                    assert!(!bytes.is_empty() && bytes.len() <= 2);
                    continue;
                }
                ReceiverOutput::Begin(header) => {
                    assert!(!header.name.is_empty() && header.length.is_none_or(|length| length <= limit));
                    (written, announced) = (0, header.length);
                    luck & 1 == 0
                }
                ReceiverOutput::Write { offset, data } => {
                    assert_eq!(offset, written);
                    assert!(!data.is_empty());
                    let done = luck & 2 == 0;
                    if done {
                        written += data.len() as u32;
                    }
                    assert!(written <= limit);
                    done
                }
                ReceiverOutput::Finish { length } => {
                    assert!(announced.is_none_or(|announced| announced == length));
                    assert!(written >= length, "bytes are missing");
                    luck & 4 == 0
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(receiver.handle_input(now, b"C"), 0);
            receiver.work_done(now, done);
        }
    };
    drain(&mut receiver, now, luck);
    while !input.is_empty() && receiver.outcome().is_none() {
        let kind = input.byte();
        let mut bytes = Vec::new();
        match kind {
            0 => {
                now += Duration::from_millis(u64::from(input.word()));
                receiver.handle_deadline(now);
            }
            1 => luck = input.byte(),
            2 => receiver.cancel(),
            0x80.. => {
                let size = if kind & 0x40 == 0 { BlockSize::Small } else { BlockSize::Large };
                let number = input.byte();
                let mut body = input.block().to_vec();
                body.resize(size.bytes(), 0);
                bytes.extend([size.start(), number, !number]);
                let crc = if kind & 0x20 == 0 { crc16(&body) } else { 0 };
                bytes.extend(body);
                bytes.extend(crc.to_be_bytes());
            }
            3 => bytes.extend(input.block()),
            byte => bytes.push(byte),
        }
        drain(&mut receiver, now, luck);
        let mut rest = &bytes[..];
        while !rest.is_empty() && receiver.outcome().is_none() {
            let used = receiver.handle_input(now, rest);
            assert!(used > 0, "stuck");
            rest = &rest[used..];
            drain(&mut receiver, now, luck);
        }
    }
    for _ in 0..20 {
        let Some(deadline) = receiver.next_deadline() else { break };
        now = now.max(deadline);
        receiver.handle_deadline(now);
        drain(&mut receiver, now, 0);
    }
    assert!(receiver.outcome().is_some(), "a silent sender keeps the transfer open");
}

/// Any answers of a device: they are read or refused, and every dialogue of the host ends.
pub fn listening_host(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let mut now = Duration::ZERO;
    if kind & 1 == 0 {
        let reply = input.rest();
        if let Ok(identity) = Identity::parse(reply) {
            assert!(!identity.device_id.is_empty());
        }
        if let Ok(mac) = Mac::parse(reply) {
            assert_eq!(Mac::parse(mac.to_string().as_bytes()), Ok(mac));
        }
        if let Ok(Version(version)) = Version::parse(reply) {
            let again = format!("system firmware version: {version}\n");
            assert_eq!(Version::parse(again.as_bytes()), Ok(Version(version)));
        }
        let _ = Claimed::parse(reply);
        if let Ok(inspection) = Inspection::parse(reply) {
            let again = Inspection::parse(inspection.describe.to_json().as_bytes());
            assert_eq!(again.as_ref(), Ok(&inspection));
            inspection
                .modules()
                .for_each(|module| assert!(module.module().is_none() || module.info.function.is_some()));
        }
        let mut ask = Ask::<64>::new(now, Question::Modules);
        ask.poll_output();
        let used = ask.handle_input(now, reply);
        assert!(used == reply.len() || ask.outcome().is_some_and(|outcome| outcome.is_err()));
        return;
    }
    let credentials = Credentials {
        ssid: b"net",
        security: if kind & 2 == 0 { Security::Wpa2 } else { Security::Open },
        cipher: Cipher::Aes,
        password: if kind & 2 == 0 { b"password" } else { b"" },
    };
    let mut setup = WifiSetup::new(now, credentials).expect("good credentials");
    let mut flash = Flash::new(now, [7; 2000], SenderProfile::PARTICLE).expect("a good image");
    while !input.is_empty() {
        let words = input.block();
        let step = Duration::from_millis(u64::from(input.byte()) * 8);
        while let Some(said) = setup.poll_output() {
            assert!(said.len() <= 9);
        }
        while flash.poll_output(now).is_some() {}
        setup.handle_input(now, words);
        flash.handle_input(now, words);
        now += step;
        setup.handle_deadline(now);
        flash.handle_deadline(now);
    }
    for _ in 0..100 {
        while setup.poll_output().is_some() || flash.poll_output(now).is_some() {}
        let deadlines = [setup.next_deadline(), flash.next_deadline()];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { break };
        now = now.max(deadline);
        setup.handle_deadline(now);
        flash.handle_deadline(now);
    }
    assert!(setup.outcome().is_some() && flash.outcome().is_some(), "a silent device keeps a dialogue open");
    let _ = BaudTrigger::from_baud(u32::from(kind) * 100);
}

/// Any bytes of a host: a device never hangs, keeps only networks that can be, and writes files without gaps.
pub fn listening_device(data: &[u8]) {
    let mut input = Input::new(data);
    let profile = if input.byte() & 1 == 0 { Profile::V0_4 } else { Profile::V2_0 };
    let mut console = Listening::new(profile, 5000);
    let facts = Facts {
        device_id: "3a0027001747343338303599",
        core: false,
        mac: Mac([1, 2, 3, 4, 5, 6]),
        modules: "{}",
        version: "2.2.0",
        claimed: false,
        diagnostics: "{}",
    };
    let mut now = Duration::ZERO;
    let mut written = 0;
    while !input.is_empty() {
        let words = input.block();
        let (step, luck) = (input.byte(), input.byte());
        let mut rest = words;
        let mut steps = 0;
        loop {
            while let Some(output) = console.poll_output() {
                steps += 1;
                assert!(steps < 20_000, "outputs do not end");
                let done = match output {
                    ListeningOutput::Answer(question) => {
                        let mut text = String::new();
                        facts.write(question, &mut text).expect("a String takes everything");
                        assert!(text.ends_with("\r\n"));
                        continue;
                    }
                    ListeningOutput::Network(credentials) => {
                        assert!(
                            (1..=32).contains(&credentials.ssid.len()) && credentials.password.len() <= 64
                        );
                        luck & 8 == 0
                    }
                    ListeningOutput::ClaimCode(code) => {
                        assert_eq!(code.len(), 63);
                        continue;
                    }
                    ListeningOutput::Begin(header) => {
                        assert!(header.length.is_some_and(|length| (1..=5000).contains(&length)));
                        written = 0;
                        luck & 1 == 0
                    }
                    ListeningOutput::Write { offset, data } => {
                        assert_eq!(offset as usize, written);
                        written += data.len();
                        luck & 2 == 0
                    }
                    ListeningOutput::Finish { length } => {
                        assert!(written >= length as usize);
                        luck & 4 == 0
                    }
                    _ => continue,
                };
                console.work_done(now, if done { Ok(()) } else { Err(-1) });
            }
            if rest.is_empty() {
                break;
            }
            let used = console.handle_input(now, rest);
            assert!(used > 0, "stuck");
            rest = &rest[used..];
        }
        now += Duration::from_millis(u64::from(step) * 50);
        console.handle_deadline(now);
    }
}
