//! How many control transfers and how much time our host needs, beside dfu-util on the same device: a transfer takes 1 ms,
//! waiting as long as it is waited.

mod common;

use common::{Bench, json, pattern};
use serde_json::Value;
use spark_dfu::SetupPacket;
use spark_dfu::descriptor::Description;
use spark_dfu::host::{
    Clock, Connect, ControlTransfer, Download, Element, EraseMode, Link, Machine, Plan, TransferFailure,
    WriteOptions, drive,
};
use spark_dfu::layout::MemoryLayout;
use std::path::Path;
use std::time::Duration;
use usb_standin::cable::{Cable, Failure};
use usb_standin::devices::find;

/// What a job cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Cost {
    transfers: u64,
    milliseconds: u64,
    erases: usize,
    blocks: usize,
}

/// Our host's end of the cable.
struct Bus {
    cable: Cable,
    now: Duration,
    cost: Cost,
}

impl Bus {
    fn plug(device: &str, folder: &Path) -> Self {
        let cable = Cable::plug(find(device).unwrap(), folder.to_path_buf(), None).unwrap();
        Self { cable, now: Duration::ZERO, cost: Cost::default() }
    }

    fn transfer(
        &mut self,
        setup: SetupPacket,
        output: &[u8],
        input: &mut [u8],
    ) -> Result<usize, TransferFailure> {
        self.now += Duration::from_millis(1);
        self.cost.transfers += 1;
        if setup.to_bytes()[..2] == [0x21, 1] {
            self.cost.blocks += usize::from(setup.value >= 2);
            self.cost.erases += usize::from(setup.value == 0 && output.first() == Some(&0x41));
        }
        let generation = self.cable.generation().ok_or(TransferFailure::Disconnected)?;
        self.cable.control(generation, setup, output, input).map_err(|failure| match failure {
            Failure::Stall => TransferFailure::Stalled,
            Failure::Gone => TransferFailure::Disconnected,
        })
    }
}

impl ControlTransfer for Bus {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.transfer(setup, data, &mut []).map(|_| ())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.transfer(setup, &[], buffer)
    }
}

impl Clock for Bus {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        let time = until.saturating_sub(self.now);
        self.now += time;
        self.cable.pass(time, true);
    }
}

struct Job {
    alternate: u8,
    address: u32,
    image: Vec<u8>,
}

fn ours(device: &str, folder: &Path, job: &Job, options: WriteOptions) -> Cost {
    let mut bus = Bus::plug(device, folder);
    let text = Description::PHOTON_ALTERNATES[usize::from(job.alternate)];
    let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
    let plan = Plan::write(&layout, job.address, job.image.len(), options).unwrap();
    let image = Element { address: job.address, data: &job.image };
    bus.control_out(SetupPacket::set_interface(0, job.alternate), &[]).unwrap();
    let mut run = |machine: &mut dyn Machine| drive(machine, &mut bus, &mut [0; 4096], |_| ()).unwrap();
    run(&mut Connect::new(Link::PHOTON));
    run(&mut Download::new(Link::PHOTON, &plan, image, [0; 4096]).unwrap());
    bus.cost.milliseconds = u64::try_from(bus.now.as_millis()).unwrap();
    bus.cost
}

/// Transfers from SET_INTERFACE on; before it dfu-util only looks at descriptors.
fn of_log(log: &[Value]) -> Cost {
    let setup = |event: &Value| event["setup"].as_str().unwrap_or_default().to_owned();
    let start = log.iter().position(|event| setup(event).starts_with("010b")).unwrap();
    let log = &log[start..];
    let last = log.last().unwrap();
    let transfers: Vec<_> = log.iter().filter(|event| event["setup"].is_string()).collect();
    let ms = |event: &Value| event["ms"].as_u64().unwrap();
    let is_block =
        |event: &&&Value| setup(event).starts_with("2101") && !setup(event).starts_with("21010000");
    let is_erase = |event: &&&Value| {
        setup(event).starts_with("21010000") && event["out"].as_str().is_some_and(|out| out.starts_with("41"))
    };
    Cost {
        transfers: transfers.len() as u64,
        // The clock of the first line is that after its transfer; a pause is logged when it begins.
        milliseconds: ms(last) + last["slept"].as_u64().unwrap_or(0) - ms(&log[0]) + 1,
        erases: transfers.iter().filter(is_erase).count(),
        blocks: transfers.iter().filter(is_block).count(),
    }
}

/// Transfers and waiting of a recorded session, in the same measure.
fn recorded(name: &str) -> Cost {
    let file = json("session_photon.json");
    let session =
        file["sessions"].as_array().unwrap().iter().find(|session| session["name"] == name).unwrap();
    let trace = session["trace"].as_array().unwrap();
    let transfers = trace.iter().filter(|event| event["setup"].is_string()).count() as u64;
    let waited: u64 =
        trace.iter().filter(|event| event["host"] == "sleep").map(|e| e["ms"].as_u64().unwrap()).sum();
    Cost { transfers, milliseconds: transfers + waited, ..Cost::default() }
}

fn show(what: &str, who: &str, cost: Cost) {
    let Cost { transfers, milliseconds, erases, blocks } = cost;
    println!(
        "{what:38} {who:28} {transfers:5} transfers {milliseconds:6} ms {erases:3} erases {blocks:4} blocks"
    );
}

#[test]
fn ours_needs_half_of_dfu_utils_transfers_and_time() {
    let write = WriteOptions::DEFAULT;
    let again = WriteOptions { skip_equal: true, verify: true, ..write };
    for device in ["photon-0.5.3", "photon"] {
        let key = Job { alternate: 1, address: 34, image: pattern(31, 7, 612) };
        let part = Job { alternate: 0, address: 0x0802_0000, image: pattern(31, 7, 250_956) };
        let in_dct = WriteOptions { erase: EraseMode::None, ..write };

        let folder = tempfile::TempDir::new().unwrap();
        let a = ours(device, folder.path(), &key, in_dct);
        show(&format!("{device}: 612 bytes of DCT"), "spark-dfu", a);
        let b = ours(device, folder.path(), &part, write);
        show(&format!("{device}: 250956 bytes"), "spark-dfu", b);
        let verified = ours(device, folder.path(), &part, WriteOptions { verify: true, ..write });
        show(&format!("{device}: 250956 bytes"), "spark-dfu, read back", verified);
        let c = ours(device, folder.path(), &part, again);
        show(&format!("{device}: 250956 bytes again"), "spark-dfu, only what differs", c);
        assert_eq!((c.erases, c.blocks), (0, 0), "what is there is neither erased nor written");
        assert_eq!((b.erases, b.blocks), (2, 62));
        // What the README says.
        assert_eq!((b.transfers, verified.transfers, c.transfers), (196, 270, 78));

        let Some(bench) = Bench::new(device) else { return };
        let theirs = |job: &Job| {
            bench.put("image", &job.image);
            let (alternate, address) = (job.alternate.to_string(), job.address.to_string());
            bench.succeed(&["-d", "2b04:d006", "-a", &alternate, "-s", &address, "-D", "image"]);
            of_log(&bench.log())
        };
        let (a_theirs, b_theirs) = (theirs(&key), theirs(&part));
        show(&format!("{device}: 612 bytes of DCT"), "dfu-util 0.11", a_theirs);
        show(&format!("{device}: 250956 bytes, again as well"), "dfu-util 0.11", b_theirs);
        assert_eq!((b_theirs.blocks, b_theirs.transfers), (62, 382));
        for (ours, theirs) in [(b.transfers, b_theirs.transfers), (b.milliseconds, b_theirs.milliseconds)] {
            let ratio = ours as f64 / theirs as f64;
            println!("{device}: {ours} of {theirs}: {ratio:.3}");
            assert!(ratio <= 0.52, "{device}: {ratio}");
        }
        assert!(a.transfers < a_theirs.transfers && a.milliseconds <= a_theirs.milliseconds);
    }
    // The recorded sessions say the same of dfu-util: one of 35 blocks here.
    let session = recorded("sys_two_sectors");
    show("photon-0.5.3: 140000 bytes", "dfu-util 0.11, recorded", session);
    let folder = tempfile::TempDir::new().unwrap();
    let job = Job { alternate: 0, address: 0x0802_0000, image: pattern(31, 7, 140_000) };
    let cost = ours("photon-0.5.3", folder.path(), &job, write);
    show("photon-0.5.3: 140000 bytes", "spark-dfu", cost);
    assert!(cost.transfers as f64 <= 0.53 * session.transfers as f64);
    assert!(cost.milliseconds as f64 <= 0.53 * session.milliseconds as f64);
}
