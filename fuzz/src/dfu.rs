//! `spark-dfu`: layout strings, descriptors, both machines.

use crate::input::Input;
use core::time::Duration;
use spark_dfu::descriptor::{Commands, Configuration, Description, FunctionalDescriptor, decode_string};
use spark_dfu::device::{Device, Memory, Profile, Protocol, Runtime, Work};
use spark_dfu::host::{
    Action, Connect, Detach, Download, Element, EraseMode, GetCommands, Input as Answer, Journal, Leave,
    Link, Machine, Plan, Policy, Progress, ReadPlan, Special, Upload, Verify, WriteOptions, plain,
};
use spark_dfu::layout::{LayoutText, MemoryLayout, ParseOptions};
use spark_dfu::quirk::Quirks;
use spark_dfu::{SetupPacket, State, Status, StatusReply};

/// Segments stay within 4 GiB, look-ups agree with them, and printing them gives the same ones again; what fewer options
/// let pass, more do as well.
pub fn layout(data: &[u8]) {
    let lenient = MemoryLayout::parse_with(data, ParseOptions::LENIENT);
    if let Ok(strict) = MemoryLayout::parse_with(data, ParseOptions::STRICT) {
        assert!(strict.trailing().is_empty());
        // A NUL in a name ends the text for the others.
        let wild = MemoryLayout::parse(data);
        assert!(data.contains(&0) || wild.is_ok_and(|wild| wild.segments().eq(strict.segments())));
    }
    if let Ok(lenient) = lenient {
        let segments: Vec<_> = lenient.segments().collect();
        let text =
            core::str::from_utf8(lenient.name()).ok().and_then(|name| LayoutText::new(name, &segments).ok());
        if let Some(text) = text.map(|text| text.to_string()) {
            let again = MemoryLayout::parse_with(text.as_bytes(), ParseOptions::STRICT);
            assert!(again.is_ok_and(|again| again.segments().eq(segments) && again.name() == lenient.name()));
        }
    }
    let Ok(layout) = MemoryLayout::parse(data) else { return };
    let segments: Vec<_> = layout.segments().collect();
    assert!((1..=MemoryLayout::MAX_SEGMENTS).contains(&segments.len()));
    let mut text = b"@".to_vec();
    text.extend(layout.name());
    for segment in &segments {
        assert!(segment.end() <= 1 << 32);
        let found = layout.segment_at(segment.start).expect("the start lies in a segment");
        let page = found.page_at(segment.start).expect("the start lies in a page");
        assert!(page.start <= segment.start && u64::from(segment.start) < page.end());
        let (start, pages, size) = (segment.start, segment.pages, segment.page_size);
        text.extend(format!("/0x{start:08X}/{pages}*{size} {}", segment.access.letter()).bytes());
    }
    let again = MemoryLayout::parse(&text).expect("the printed form is a layout string");
    assert!(again.segments().eq(segments) && again.name() == layout.name() && again.trailing().is_empty());
}

/// Walks end, offsets ascend, values survive encoding.
pub fn descriptors(data: &[u8]) {
    let mut text = [0; 64];
    let _ = decode_string(data, &mut text);
    if let Ok(configuration) = Configuration::parse(data) {
        let mut end = 0;
        for descriptor in configuration.descriptors().map_while(Result::ok) {
            assert!(descriptor.offset >= end && !descriptor.bytes.is_empty());
            end = descriptor.offset + descriptor.bytes.len();
            assert!(end <= data.len());
        }
        let _ = (configuration.alternates().count(), configuration.functional_descriptor());
    }
    if let Ok(functional) = FunctionalDescriptor::parse(data) {
        assert_eq!(FunctionalDescriptor::parse(&functional.to_bytes()), Ok(functional));
    }
    if let Ok(reply) = StatusReply::parse(data) {
        assert_eq!(reply.to_bytes(), data);
    }
    if let Ok(journal) = Journal::parse(data) {
        assert_eq!(journal.to_bytes(), data);
    }
    if let Some(setup) = data.first_chunk() {
        let packet = SetupPacket::from_bytes(*setup);
        let _ = packet.dfu_request();
        assert_eq!(&packet.to_bytes(), setup);
    }
}

/// The third block of the first map overlaps the first.
const ALTERNATES: &[&str] =
    &["@flash/0x1000/2*256 g,1*256 a/0x2000/4*64 e/0x1120/1*16 a", "@config/0x0/1*512 d"];
const TRANSFER_SIZE: u16 = 64;

fn description(plain: bool) -> Description<'static> {
    let mut description = Description::photon("1");
    description.alternates = ALTERNATES;
    description.commands = Commands::ALL;
    description.vendor_error = "locked";
    description.functional.transfer_size = TRANSFER_SIZE;
    if plain {
        description.functional.dfu_version = FunctionalDescriptor::VERSION_1_1;
    }
    description
}

struct Ram {
    /// Everything has to be inside the map and allowed by its letters.
    checked: bool,
    slow: bool,
    protected: bool,
}

impl Ram {
    fn check(
        &self,
        alternate: u8,
        address: u32,
        len: usize,
        allowed: impl Fn(spark_dfu::layout::Access) -> bool,
    ) {
        let text = ALTERNATES[usize::from(alternate)];
        let layout = MemoryLayout::parse(text.as_bytes()).expect("a constant");
        for at in (u64::from(address)..).take(len).filter(|_| self.checked) {
            let mut holding = layout
                .segments()
                .filter(|segment| u32::try_from(at).is_ok_and(|at| segment.contains(at)))
                .peekable();
            assert!(holding.peek().is_some(), "{at:#x} of alternate {alternate}");
            assert!(holding.all(|segment| allowed(segment.access)), "{at:#x} of alternate {alternate}");
        }
        assert!(!(self.checked && self.protected));
    }
}

impl Memory for Ram {
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize {
        self.check(alternate, address, out.len(), |access| access.readable());
        out.fill(0x5A);
        out.len()
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::from_millis(if self.slow { 1 << 40 } else { 3 })
    }

    fn protected(&self, _: u8) -> bool {
        self.protected
    }

    fn complete(&self, _: u8, len: u64) -> bool {
        len != 7
    }
}

/// Any requests, resets and pauses: no reply exceeds wLength, no work leaves the memory map, plain images grow block
/// by block.
pub fn device(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let (profile, plain) = match (choice & 0x3F) % 9 {
        0 => (Profile::STRICT, false),
        1 => (Profile::PHOTON_0_5_3, false),
        2 => (Profile::PHOTON_2_3_1, false),
        3 => (Profile::TOLERANT, false),
        4 => (Profile::CORE, false),
        5 => (Profile::NRF52840, false),
        6 => (Profile::STRICT, true),
        7 => (Profile::TOLERANT, true),
        _ => return runtime(&mut input),
    };
    let mut memory = Ram {
        checked: profile.checks_range && !plain,
        slow: choice & 0x80 != 0,
        protected: choice & 0x40 != 0,
    };
    let mut device =
        Device::new(description(plain), profile, [0_u8; TRANSFER_SIZE as usize]).expect("constants");
    assert_eq!(device.protocol() == Protocol::Plain, plain);
    let mut end = 0;
    let (mut now, mut reply) = (Duration::ZERO, [0; 256]);
    while !input.is_empty() {
        let mut request = |setup: SetupPacket, output: &[u8]| {
            let bytes = setup.to_bytes();
            if let Ok(len) = device.control(now, &mut memory, &bytes, output, &mut reply) {
                assert!(len <= usize::from(setup.length) && len <= reply.len());
            }
        };
        match input.byte() {
            0 => {
                let setup = SetupPacket::from_bytes(input.array());
                request(setup, input.block());
            }
            1 => {
                let (block, data) = (input.word(), input.block());
                request(SetupPacket::dnload(0, block, data.len() as u16), data);
            }
            2 => {
                let command = input.array::<5>();
                request(SetupPacket::dnload(0, 0, 5), &command);
            }
            3 => request(SetupPacket::upload(0, input.word(), input.word()), &[]),
            4 => request(SetupPacket::get_status(0), &[]),
            5 => request(SetupPacket::clr_status(0), &[]),
            6 => request(SetupPacket::abort(0), &[]),
            7 => request(SetupPacket::get_state(0), &[]),
            8 => request(SetupPacket::set_interface(0, input.byte()), &[]),
            9 => drop(device.work_done(now, Ok(()))),
            10 => drop(device.work_done(now, Err(Status::from_code(input.byte())))),
            11 => device.bus_reset(),
            12 => request(SetupPacket::get_descriptor(input.byte(), input.byte(), 0x0409, input.word()), &[]),
            millis => now += Duration::from_millis(u64::from(millis)),
        }
        let _ = device.next_deadline();
        match device.work(now) {
            Some(Work::Program { alternate, address, data }) => {
                assert!(data.len() <= usize::from(TRANSFER_SIZE));
                memory.check(alternate, address, data.len(), |access| access.writeable());
                if plain {
                    let after = u64::from(address) + data.len() as u64;
                    assert!(after == device.image_offset() && (address == 0 || end <= u64::from(address)));
                    end = u64::from(address);
                }
            }
            Some(Work::Manifest { len, .. }) => assert!(plain && len == device.image_offset()),
            Some(Work::Erase { alternate, address }) => {
                memory.check(alternate, address, 1, |access| access.erasable());
            }
            _ => {}
        }
    }
}

fn runtime(input: &mut Input<'_>) {
    let mut device = Runtime::new(description(input.byte() & 1 == 0));
    let (mut now, mut reply) = (Duration::ZERO, [0; 64]);
    while !input.is_empty() {
        let setup = match input.byte() {
            0 => input.array(),
            1 => SetupPacket::detach(0, input.word()).to_bytes(),
            2 => SetupPacket::get_status(0).to_bytes(),
            3 => {
                device.bus_reset(now);
                continue;
            }
            millis => {
                now += Duration::from_millis(u64::from(millis));
                continue;
            }
        };
        if let Ok(len) = device.control(now, &setup, &mut reply) {
            assert!(len <= usize::from(SetupPacket::from_bytes(setup).length).min(reply.len()));
        }
        assert!(matches!(device.state(), State::AppIdle | State::AppDetach));
        assert!(device.work().is_none() || device.state() == State::AppDetach);
    }
}

/// How the device answers the host's next transfer.
#[derive(Clone, Copy)]
enum Reply<'a> {
    /// Acknowledges OUT; an IN transfer then brings nothing.
    Done,
    Stalled,
    TimedOut,
    Gone,
    Status([u8; 6]),
    Bytes(&'a [u8]),
}

impl<'a> Reply<'a> {
    /// 0 to 3, 4 and a byte of status and state, or 4 + n and n bytes.
    fn read(input: &mut Input<'a>) -> Self {
        match input.byte() {
            0 => Self::Done,
            1 => Self::Stalled,
            2 => Self::TimedOut,
            3 => Self::Gone,
            4 => {
                let code = input.byte();
                Self::Status([code >> 4, 1, 0, 0, code & 15, 0])
            }
            kind => Self::Bytes(input.bytes(usize::from(kind - 4))),
        }
    }
}

/// Ends a host job whatever the device says: first the answers of the input, then the last one again and again.
fn run(machine: &mut dyn Machine, input: &mut Input<'_>) {
    let (mut now, mut done, mut reply) = (Duration::ZERO, 0, Reply::Done);
    for _ in 0..3000 {
        let action = machine.action();
        if !input.is_empty() && !matches!(action, Action::Wait { .. }) {
            reply = Reply::read(input);
        }
        let answer = match (action, &reply) {
            (Action::Finished, _) => return,
            (Action::Wait { until }, _) => {
                now = now.max(until);
                Answer::TimeReached
            }
            (Action::ResetBus, Reply::Stalled) => Answer::Unsupported,
            (Action::ResetBus, _) => Answer::BusReset,
            (Action::FindAgain { .. }, Reply::Done) => Answer::Found,
            (Action::FindAgain { until }, _) => {
                now = now.max(until);
                Answer::TimeReached
            }
            (_, Reply::Stalled) => Answer::Stalled,
            (_, Reply::TimedOut) => Answer::TimedOut,
            (_, Reply::Gone) => Answer::Disconnected,
            (Action::Out { setup, data }, _) => {
                assert_eq!(usize::from(setup.length), data.len());
                Answer::OutDone
            }
            (_, Reply::Done) => Answer::InDone(&[]),
            (_, Reply::Status(bytes)) => Answer::InDone(bytes),
            (_, Reply::Bytes(bytes)) => Answer::InDone(bytes),
        };
        match machine.handle(now, answer) {
            Ok(Some(Progress::Written { done: at, total } | Progress::Unchanged { done: at, total })) => {
                assert!(done <= at && at <= total);
                done = at;
            }
            Ok(_) => {}
            Err(_) => assert_eq!(machine.action(), Action::Finished),
        }
    }
    panic!("the job does not end");
}

/// The image of [`host`] and what its memory holds.
pub const HOST_IMAGE: [u8; 200] = [0x33; 200];
/// The memory map of [`host`].
pub const HOST_LAYOUT: &str = "@x/0x1000/4*64 g";

/// How the jobs of [`host`] write, by the upper bits of the choice.
fn options(choice: u8) -> WriteOptions {
    let erase =
        [EraseMode::Pages, EraseMode::None, EraseMode::Mass, EraseMode::Pages][usize::from(choice >> 4 & 3)];
    let (keep_partial_pages, skip_equal) = (choice & 0x40 != 0, choice & 0x80 != 0);
    WriteOptions {
        erase,
        keep_partial_pages,
        skip_equal,
        verify: skip_equal,
        force: false,
        will_reset: false,
    }
}

/// One of the host jobs; `buffer` is for those that read.
pub fn host_job<'a>(choice: u8, buffer: &'a mut [u8; 200]) -> Box<dyn Machine + 'a> {
    let layout = MemoryLayout::parse(HOST_LAYOUT.as_bytes()).expect("a constant");
    let image = Element { address: 0x1010, data: &HOST_IMAGE };
    let plan =
        Plan::write(&layout, image.address, image.data.len(), options(choice)).expect("it lies in the map");
    let read = ReadPlan::new(&layout, image.address, image.data.len()).expect("it lies in the map");
    let quirks = Quirks { busy_retries: 1, stuck_after_erase: choice & 0x80 != 0, ..Quirks::PHOTON };
    let policy = Policy { max_polls: 8, ..Policy::DEFAULT };
    let link = Link { transfer_size: 32, ..Link::PHOTON }.with_quirks(quirks).with_policy(policy);
    match choice & 15 {
        0 => Box::new(Connect::new(link)),
        1 => Box::new(Download::new(link, &plan, image, [0; 64]).expect("it fits")),
        2 => Box::new(Upload::new(link, &read, buffer).expect("it fits")),
        3 => Box::new(Verify::new(link, &read, &HOST_IMAGE).expect("it fits")),
        4 => Box::new(Leave::new(link, Some(0x1000))),
        5 => Box::new(Detach::new(link)),
        6 => Box::new(plain::Download::new(link, &HOST_IMAGE[..], 200, [0; 32]).expect("it fits")),
        7 => Box::new(plain::Upload::new(link, buffer).expect("it fits")),
        8 => Box::new(Special::mass_erase(link).expect("a Photon is said to know it")),
        9 => Box::new(Special::read_unprotect(link)),
        10 => Box::new(GetCommands::new(link)),
        _ => {
            let mut cancelled = Download::new(link, &plan, image, [0; 64]).expect("it fits");
            cancelled.cancel();
            Box::new(cancelled)
        }
    }
}

/// Any answers of a device: every job ends.
pub fn host(data: &[u8]) {
    let mut input = Input::new(data);
    let mut buffer = [0; 200];
    run(&mut *host_job(input.byte(), &mut buffer), &mut input);
}
