//! `spark-ota`: both ends of a firmware transfer, module files, update resolution.

use crate::input::Input;
use coap_spark::message::describe::Describe;
use core::time::Duration;
use spark_ota::crc32;
use spark_ota::describe::{installed, installed_module};
use spark_ota::module::{
    Dependency, Installed, MAXIMUM_SCORE, Module, ModuleFunction, ModuleKey, Prefix, Store, VECTOR_TABLE_LEN,
    check_in_flash, find_prefix, is_stack_pointer, resign, resign_at, score,
};
use spark_ota::resolve::{Attempt, CatalogueEntry, Request, Step, next_step, plan};
use spark_ota::transfer::{
    Begin, Options, Plan, Profile, Receiver, ReceiverOutput, Sender, SenderInput, SenderOutput,
};

const PROFILES: [Profile; 6] = [Profile::S1, Profile::S2, Profile::C1, Profile::C2, Profile::C3, Profile::C4];

/// The owner of the OTA region: what was written of the update that runs.
#[derive(Default)]
struct Region {
    plan: Option<Plan>,
    written: Vec<bool>,
}

impl Region {
    /// Polls until `None` and does what is asked, with success except for every byte of `luck` that is 0.
    fn drain(&mut self, receiver: &mut Receiver<16>, now: Duration, chunk: &[u8], luck: u8, limit: u32) {
        let (mut steps, mut valid) = (0, false);
        while let Some(output) = receiver.poll_output() {
            steps += 1;
            assert!(steps < 16, "outputs do not end");
            match output {
                ReceiverOutput::Check(plan) => {
                    assert!(plan.file_length <= limit && plan.chunk_size > 0 && plan.chunks <= 128);
                    receiver.work_done(now, luck & 1 == 0);
                }
                ReceiverOutput::Prepare(plan) => {
                    (self.plan, self.written) = (Some(plan), vec![false; plan.file_length as usize]);
                    receiver.work_done(now, luck & 2 == 0);
                }
                ReceiverOutput::Save { offset, len } => {
                    assert!(len <= chunk.len(), "more than the chunk holds");
                    let end = offset as usize + len;
                    assert!(end <= self.written.len(), "outside of the plan");
                    let ok = luck & 4 == 0;
                    if ok {
                        self.written[offset as usize..end].fill(true);
                    }
                    receiver.work_done(now, ok);
                }
                ReceiverOutput::Validate(_) => {
                    valid = luck & 8 == 0;
                    receiver.work_done(now, valid);
                }
                ReceiverOutput::Missed { count } => {
                    assert!(usize::from(count) <= receiver.missing().count());
                }
                ReceiverOutput::Apply(plan) => {
                    assert_eq!((Some(plan), valid), (self.plan, true));
                    // What has no length ends where the server says, and the device judges it.
                    let open = !plan.fast && plan.file_length == limit;
                    assert!(open || self.written.iter().all(|written| *written), "an image with holes");
                }
                _ => {}
            }
        }
    }
}

/// Any messages, in any order: nothing is written outside of the plan, no image with holes is applied.
pub fn receiver(data: &[u8]) {
    let mut input = Input::new(data);
    let profile = PROFILES[usize::from(input.byte() % 6)];
    let limit = u32::from(input.word());
    let mut receiver = Receiver::<16>::new(profile, limit);
    let mut region = Region::default();
    let mut now = Duration::ZERO;
    while !input.is_empty() {
        let (kind, luck) = (input.byte(), input.byte());
        let chunk = &mut Vec::new();
        match kind % 8 {
            0 => receiver.handle_begin(Begin {
                offers_fast: kind & 8 != 0,
                chunk_size: input.word(),
                file_length: if kind & 16 != 0 { input.long() } else { u32::from(input.word()) },
                store: kind >> 5,
                address: 0,
            }),
            1..=4 => {
                let index = (kind % 8 != 4).then(|| u16::from(input.byte()) | u16::from(kind >> 7) << 8);
                chunk.extend(input.block());
                // Most chunks have their real length.
                if let Some(plan) = region.plan.filter(|_| kind & 8 != 0 && kind & 16 == 0) {
                    chunk.resize(usize::from(plan.chunk_size), 0);
                }
                let crc = if kind & 32 == 0 { crc32(chunk) } else { input.long() };
                receiver.handle_chunk(now, index, crc, chunk);
            }
            5 => receiver.handle_done(),
            6 => {
                now += Duration::from_millis(u64::from(input.word()));
                receiver.handle_deadline(now);
            }
            _ => drop(receiver.abort()),
        }
        region.drain(&mut receiver, now, chunk, luck, limit);
        let _ = (receiver.next_deadline(), receiver.is_updating());
    }
}

/// Any answers of a device: chunks are the image's, and without further answers the transfer ends.
pub fn sender(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let options = Options {
        chunk_size: u16::from(input.byte()),
        offer_fast: choice & 1 != 0,
        pad_last: choice & 2 != 0,
        device_buffer: usize::from(input.word()),
        bad_chunk_limit: choice >> 4,
        resend_factor: 2,
        expects_result: choice & 4 != 0,
    };
    let image: Vec<u8> = (0..input.word() % 2000).map(|i| (i % 251) as u8).collect();
    let Ok(mut sender) = Sender::new(&image, options) else { return };
    let mut now = Duration::ZERO;
    let poll = |sender: &mut Sender<&Vec<u8>>, now| {
        let mut steps = 0;
        let agreed = sender.progress().fast;
        assert!(!agreed || options.offer_fast, "fast mode without an offer");
        while let Some(output) = sender.poll_output(now) {
            steps += 1;
            assert!(steps <= image.len() + 100, "outputs do not end");
            if let SenderOutput::Chunk { chunk, fast } = output {
                assert!(!fast || agreed, "a chunk with an index in slow mode");
                let start = chunk.offset as usize;
                assert_eq!(chunk.data, &image[start..start + chunk.data.len()]);
                assert_eq!(start, usize::from(chunk.index) * usize::from(options.chunk_size));
                let mut wire = chunk.data.to_vec();
                wire.resize(wire.len() + usize::from(chunk.padding), 0);
                assert_eq!(chunk.crc(), crc32(&wire));
            }
        }
    };
    sender.set_link_repeats(choice & 8 != 0);
    poll(&mut sender, now);
    while !input.is_empty() && sender.outcome().is_none() {
        let kind = input.byte();
        match kind % 9 {
            0 => sender.handle_input(now, SenderInput::BeginAccepted),
            1 => sender.handle_input(now, SenderInput::BeginRefused { code: input.byte() }),
            2 => sender.handle_input(now, SenderInput::Ready { fast: kind & 128 != 0 }),
            3 => sender.handle_input(now, SenderInput::ChunkReceived { good: kind & 128 == 0 }),
            4 => sender.handle_input(now, SenderInput::LateChunkReceived { good: kind & 128 == 0 }),
            5 => {
                let result = input.block();
                sender.handle_input(now, SenderInput::DoneAnswered { complete: kind & 128 != 0, result });
            }
            6 => sender.handle_input(now, SenderInput::Missed { indices: input.block() }),
            7 => sender.handle_input(now, SenderInput::DoneByDevice { result: input.block() }),
            _ => {
                now += Duration::from_secs(u64::from(input.byte()));
                sender.handle_deadline(now);
            }
        }
        poll(&mut sender, now);
        let progress = sender.progress();
        assert!(progress.sent <= progress.chunks);
    }
    never_content(sender.clone(), now, choice);
    for _ in 0..50 {
        let Some(deadline) = sender.next_deadline() else { break };
        now = now.max(deadline);
        sender.handle_deadline(now);
        poll(&mut sender, now);
    }
    assert!(sender.outcome().is_some(), "a silent device keeps the transfer open");
    sender.cancel();
}

/// A device that takes everything and then says at once, every time, that something is missing, but not what.
fn never_content(mut sender: Sender<&Vec<u8>>, mut now: Duration, choice: u8) {
    let nothing: &[u8] = match choice & 3 {
        0 => &[],
        1 => &[7],
        2 => &[0xff, 0xff],
        _ => &[0xff, 0xff, 0xff, 0xfe, 0],
    };
    for _ in 0..10_000 {
        if sender.outcome().is_some() {
            return;
        }
        match sender.poll_output(now) {
            Some(SenderOutput::Begin(begin)) => {
                sender.handle_input(now, SenderInput::Ready { fast: begin.offers_fast });
            }
            Some(SenderOutput::Chunk { fast: false, .. }) => {
                sender.handle_input(now, SenderInput::ChunkReceived { good: true });
            }
            Some(SenderOutput::Done) => {
                sender.handle_input(now, SenderInput::DoneAnswered { complete: false, result: &[] });
                sender.handle_input(now, SenderInput::Missed { indices: nothing });
            }
            Some(_) => {}
            None => {
                now = now.max(sender.next_deadline().expect("a transfer that waits has a deadline"));
                sender.handle_deadline(now);
            }
        }
    }
    assert!(sender.outcome().is_some(), "a device that is never content keeps the transfer open");
}

/// Any file: memory and flash see the same module, and signing it again makes it a good one.
pub fn module(data: &[u8]) {
    let found = find_prefix(data);
    if let Some(found) = found {
        assert!((1..=MAXIMUM_SCORE).contains(&found.score) && found.offset <= 8192);
        assert_eq!(score(&found.prefix, data.len()), found.score);
        assert_eq!(Prefix::decode(&found.prefix.encode()), found.prefix);
    }
    if let Ok(module) = Module::parse(data) {
        assert_eq!(Module::parse_at(data, module.prefix_offset()), Ok(module));
        if module.crc_ok() {
            assert_eq!([module.image(), module.trailing()].concat(), data);
        }
    }
    for offset in [0, VECTOR_TABLE_LEN.into(), 0x200, 0xc0, 3, data.len(), usize::MAX] {
        if let Ok(module) = Module::parse_at(data, offset) {
            assert_eq!([module.image(), module.trailing()].concat(), data);
            let length = module.prefix().length().expect("a module has a length");
            assert_eq!(module.image().len(), length as usize + 4);
        }
        signed_again(data, Some(offset));
    }
    signed_again(data, None);
    in_flash(data);
}

fn signed_again(data: &[u8], offset: Option<usize>) {
    let mut file = data.to_vec();
    let result = match offset {
        Some(offset) => resign_at(&mut file, offset),
        None => resign(&mut file),
    };
    if result.is_err() {
        assert_eq!(file, data, "a refused file changed");
        return;
    }
    let offset = offset.unwrap_or_else(|| Module::parse(data).expect("it was signed").prefix_offset());
    let before = Module::parse_at(data, offset).expect("it was signed");
    let module = Module::parse_at(&file, offset).expect("signing kept the layout");
    assert!(module.crc_ok() && module.sha256_ok());
    assert_eq!((module.prefix(), module.trailing()), (before.prefix(), before.trailing()));
    let body = module.image().len() - 38;
    assert_eq!(module.image()[..body], before.image()[..body]);
    if before.crc_ok() && before.sha256_ok() {
        assert_eq!(file, data);
    }
}

fn in_flash(data: &[u8]) {
    const AT: u32 = 0x0802_0000;
    let Ok(region_len) = u32::try_from(data.len()) else { return };
    let mut reads = 0;
    let found = check_in_flash(AT, region_len, |address, out| {
        reads += 1;
        let start = (address - AT) as usize;
        assert!(out.len() <= 256);
        out.copy_from_slice(&data[start..start + out.len()]);
        Ok::<(), ()>(())
    });
    assert!(reads <= data.len() / 256 + 8);
    let has_table = data.first_chunk().is_some_and(|word| is_stack_pointer(u32::from_le_bytes(*word)));
    let offset = if has_table { VECTOR_TABLE_LEN } else { 0 };
    match (found, Module::parse_at(data, offset.into())) {
        (Ok(found), Ok(module)) => {
            assert_eq!(found.prefix_offset, offset);
            assert_eq!((&found.prefix, &found.suffix), (module.prefix(), module.suffix()));
            assert_eq!(found.size as usize, module.image().len());
            assert_eq!((found.stored_crc, found.computed_crc), (module.stored_crc(), module.computed_crc()));
            assert_eq!((found.crc_ok(), found.sha256_ok), (module.crc_ok(), module.sha256_ok()));
        }
        (found, module) => assert_eq!(found.is_ok(), module.is_ok()),
    }
    let failing = check_in_flash(AT, region_len, |_, _| Err(1));
    assert!(failing.is_err(), "a module out of flash that cannot be read");
}

const PLATFORM: u16 = 6;

/// Few functions, indices and versions, so that they meet.
fn key(byte: u8) -> (ModuleFunction, u8) {
    const FUNCTIONS: [ModuleFunction; 8] = [
        ModuleFunction::System,
        ModuleFunction::Bootloader,
        ModuleFunction::User,
        ModuleFunction::System,
        ModuleFunction::RadioStack,
        ModuleFunction::Ncp,
        ModuleFunction::Asset,
        ModuleFunction::None,
    ];
    (FUNCTIONS[usize::from(byte & 7)], byte >> 3 & 3)
}

/// A byte for function and index, one for the version; the highest bit of the first means none.
fn dependency(input: &mut Input<'_>) -> Dependency {
    let [what, version] = input.array();
    let (function, index) = key(what);
    if what & 128 != 0 {
        return Dependency::NONE;
    }
    Dependency { function, index, version: version.into() }
}

fn sha256(byte: u8) -> Option<[u8; 32]> {
    (byte & 3 != 0).then_some([byte & 3; 32])
}

/// What is installed on the simulated device, as a plan counts it.
fn version(modules: &[Installed], key: ModuleKey) -> Option<u16> {
    modules.iter().find(|module| module.is_usable() && module.key() == key).map(|module| module.version)
}

fn unmet(modules: &[Installed], dependencies: &[Dependency; 2]) -> Option<Dependency> {
    let mut needs = dependencies.iter().copied().filter(|need| !need.is_none());
    needs.find(|need| version(modules, (*need).into()).is_none_or(|version| version < need.version))
}

fn install(modules: &mut Vec<Installed>, entry: &CatalogueEntry) {
    modules.retain(|module| !module.is_usable() || module.key() != entry.key());
    let module = Installed::main(entry.function, entry.index, entry.version, entry.dependencies);
    modules.push(Installed { sha256: entry.sha256, ..module });
}

/// Any device and any catalogue: a plan ends, each of its modules finds what it needs, and afterwards nothing is missing.
pub fn resolve(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let mut device = Vec::new();
    for _ in 0..input.byte() % 12 {
        let [what, version, other] = input.array();
        let (function, index) = key(what);
        let needs = [dependency(&mut input), dependency(&mut input)];
        let store = if other & 0x70 == 0x70 { Store::Factory } else { Store::Main };
        device.push(Installed {
            store,
            integrity_ok: other & 0x0c != 0x0c,
            sha256: sha256(other),
            ..Installed::main(function, index, version.into(), needs)
        });
    }
    let mut catalogue = Vec::new();
    for _ in 0..input.byte() % 24 {
        let [what, version, other] = input.array();
        let (function, index) = key(what);
        catalogue.push(CatalogueEntry {
            platform_id: if other & 0xf0 == 0xf0 { 10 } else { PLATFORM },
            function,
            index,
            version: version.into(),
            dependencies: [dependency(&mut input), dependency(&mut input)],
            size: 1000,
            sha256: sha256(other),
        });
    }
    let mut attempts = Vec::new();
    for _ in 0..input.byte() % 4 {
        let [what, version, times] = input.array();
        let (function, index) = key(what);
        attempts.push(Attempt {
            key: ModuleKey { function, index },
            version: version.into(),
            times: times % 4,
        });
    }
    let target = (choice & 1 != 0).then(|| usize::from(input.byte() % 24));
    let request = Request {
        target,
        attempts: &attempts,
        use_bootstrap: choice & 2 != 0,
        ..Request::new(PLATFORM, &device, &catalogue)
    };
    let planned = plan(&request);
    match (&planned, next_step(&request)) {
        (Ok(steps), Step::Flash(step)) => assert_eq!(steps.first(), Some(&step)),
        (Ok(steps), Step::Done) => assert!(steps.is_empty()),
        (Err(reason), Step::Impossible(other)) => {
            assert_eq!(*reason, other);
            let _ = reason.to_string();
        }
        (planned, step) => panic!("{planned:?} begins with {step:?}"),
    }
    let Ok(steps) = planned else { return };
    // Each module once up and once down at the most, before and after a bootstrap.
    assert!(steps.len() <= 4 * catalogue.len() + 4);
    let mut modules = device.clone();
    for (at, step) in steps.iter().enumerate() {
        let entry = &catalogue[step.entry];
        assert_eq!((entry.platform_id, entry.key(), entry.version), (PLATFORM, step.key, step.version));
        assert_eq!(unmet(&modules, &entry.dependencies), None, "step {at} of {steps:?} is refused");
        if target.is_none() {
            assert!(version(&modules, step.key).is_none_or(|before| before < step.version), "a downgrade");
        }
        let _ = step.to_string();
        install(&mut modules, entry);
        // Asked again after each update, as a server does.
        let again = Request { installed: &modules, attempts: &[], ..request };
        if !request.use_bootstrap {
            assert_eq!(plan(&again).as_deref(), Ok(&steps[at + 1..]));
        }
    }
    let end = Request { installed: &modules, attempts: &[], ..request };
    assert_eq!(next_step(&end), Step::Done);
    if target.is_none() {
        for module in modules.iter().filter(|module| module.is_usable()) {
            // Only the first of several modules of one key counts.
            let counts = version(&modules, module.key()) == Some(module.version);
            let is_first = modules.iter().find(|other| other.is_usable() && other.key() == module.key());
            if counts && is_first == Some(module) {
                assert_eq!(unmet(&modules, &module.dependencies), None, "{module:?} lacks something");
            }
        }
    }
}

/// Any Describe document: what it says is read the same after a round trip, and can be resolved.
pub fn describe(data: &[u8]) {
    let Ok(document) = Describe::from_json(data) else { return };
    let modules = installed(&document);
    let infos = document.modules.as_deref().unwrap_or_default();
    assert_eq!(modules.len(), infos.iter().filter_map(installed_module).count());
    assert!(modules.iter().all(|module| module.function != ModuleFunction::None));
    let again = Describe::from_json(document.to_json().as_bytes()).expect("our own document");
    assert_eq!(installed(&again), modules);
    // Its own modules as a catalogue: what is missing stays missing.
    let catalogue: Vec<CatalogueEntry> = modules
        .iter()
        .take(40)
        .map(|module| CatalogueEntry {
            platform_id: document.platform_id.unwrap_or(PLATFORM),
            function: module.function,
            index: module.index,
            version: module.version,
            dependencies: module.dependencies,
            size: 1000,
            sha256: module.sha256,
        })
        .collect();
    let platform_id = document.platform_id.unwrap_or(PLATFORM);
    let few = &modules[..modules.len().min(40)];
    let _ = next_step(&Request::new(platform_id, few, &catalogue));
}
