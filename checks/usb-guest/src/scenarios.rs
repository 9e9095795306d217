//! What is proven.

use std::thread;
use std::time::{Duration, Instant};

use crate::devices::{self, Kind};
use crate::guest::Guest;
use crate::port::{Event, Port};
use serde_json::Value;
use spark_dfu::descriptor::{Attributes, Description, Mode};
use spark_dfu::file::dfuse::{Element, Image, TargetImage};

/// Where the ports are: the first one of the host controller, and the third one of a hub at its second.
const PATHS: [&str; 2] = ["1-1", "1-2.3"];

/// The guest and its ports.
pub struct Bench {
    /// The guest.
    pub guest: Guest,
    /// Where devices are plugged in.
    pub ports: [Port; 2],
}

/// Asserts what it proves.
pub type Scenario = fn(&mut Bench);

/// Every scenario with its name.
pub const ALL: &[(&str, Scenario)] = &[
    ("lists", lists),
    ("chooses", chooses),
    ("permission", permission),
    ("image", image),
    ("key", key),
    ("keys", keys),
    ("unchanged", unchanged),
    ("two_alternates", two_alternates),
    ("commands", commands),
    ("detach_by_reset", detach_by_reset),
    ("detach_by_itself", detach_by_itself),
    ("from_run_time", from_run_time),
    ("tolerant", tolerant),
    ("leaves_by_itself", leaves_by_itself),
    ("old", old),
    ("behind_a_hub", behind_a_hub),
    ("large_blocks", large_blocks),
    ("unplugged", unplugged),
    ("unplugged_plain", unplugged_plain),
    ("deaf", deaf),
    ("busy", busy),
    ("interrupted", interrupted),
    ("waits", waits),
    ("dfu_util", dfu_util),
    ("dfu_util_runtime", dfu_util_runtime),
];

fn pattern(factor: usize, offset: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (factor * i + offset + (i >> 8)).to_le_bytes()[0]).collect()
}

fn application() -> Vec<u8> {
    pattern(13, 5, 300_000)
}

fn device_key() -> Vec<u8> {
    pattern(31, 7, 612)
}

/// A device key in the form that OpenSSL 3 gives it, and the same in a device.
const DEVICE_KEY: &[u8] = include_bytes!("../../../keys/tests/vectors/rsa1024_608.pkcs8.pem");
const DEVICE_KEY_FIELD: &[u8] = include_bytes!("../../../keys/tests/vectors/field612_ff.bin");

fn plain_image() -> Vec<u8> {
    pattern(5, 9, 50_000)
}

fn parts() -> [Vec<u8>; 2] {
    [pattern(3, 1, 5000), pattern(7, 2, 612)]
}

/// The files that the guest has.
pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    let [flash, dct] = parts();
    let elements = [[Element { address: 0x080C_0000, data: &flash }], [Element { address: 34, data: &dct }]];
    let target = |alternate, elements| TargetImage { alternate, name: None, elements };
    let targets = [target(0, &elements[0][..]), target(1, &elements[1][..])];
    let both = Image::new(0x2B04, 0xD006, &targets).to_vec().expect("a small file");
    vec![
        ("app.bin", application()),
        ("key.der", device_key()),
        ("device.pem", DEVICE_KEY.to_vec()),
        ("server.pem", include_bytes!("../../../keys/tests/vectors/server2048.spki.pem").to_vec()),
        ("plain.bin", plain_image()),
        ("both.dfu", both),
    ]
}

fn kind(name: &str) -> Kind {
    devices::find(name).expect("a known device")
}

/// A DfuSe device that is no Photon: what is special about those the host knows by their ids.
fn other(name: &str) -> Kind {
    let kind = kind(name);
    Kind { dfu: Description { id_product: 0xD5FE, ..kind.dfu }, ..kind }
}

/// A DfuSe device by the book.
fn strict() -> Kind {
    other("strict")
}

/// A run-time device that is not manifestation tolerant and detaches by itself.
fn leaving() -> Kind {
    let kind = kind("runtime-detaches");
    let with = |description: Description<'static>| {
        let mut description = description;
        description.functional.attributes = Attributes(0x0B);
        description
    };
    Kind { dfu: with(kind.dfu), runtime: kind.runtime.map(with), ..kind }
}

impl Bench {
    /// Takes all devices away and makes their memories new.
    pub fn reset(&mut self) {
        for port in &self.ports {
            port.unplug();
            port.renew();
        }
        self.guest.ok("rm -rf /tmp/*");
        PATHS.iter().for_each(|path| self.gone(path));
        for port in &self.ports {
            port.events();
        }
    }

    /// Plugs a device into the first port, and waits until the guest has configured it.
    fn plug(&mut self, kind: Kind) {
        self.plug_at(0, kind);
    }

    fn plug_at(&mut self, port: usize, kind: Kind) {
        self.ports[port].unplug();
        self.gone(PATHS[port]);
        self.ports[port].plug(kind);
        self.settled(PATHS[port]);
        self.ports[port].events();
    }

    /// Waits until the guest knows that nothing is plugged in there.
    fn gone(&mut self, path: &str) {
        self.until(&format!("[ ! -e /sys/bus/usb/devices/{path} ]"));
    }

    fn until(&mut self, condition: &str) {
        let line =
            format!("i=0; until {condition}; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.05; done");
        self.guest.ok(&line);
    }

    /// Waits until something happened at the first port.
    fn until_event(&mut self, wanted: fn(&Event) -> bool) {
        let start = Instant::now();
        while !self.port().events().iter().any(wanted) {
            assert!(start.elapsed() < Duration::from_secs(10), "it does not happen");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the device at the first port has these ids.
    fn settled_as(&mut self, (id, mode): &(u64, String)) {
        self.until(&format!("[ \"$(cat /sys/bus/usb/devices/1-1/idProduct)\" = {id:04x} ]"));
        self.settled(PATHS[0]);
        assert_eq!(one_of(self), (*id, mode.clone()));
    }

    /// Waits until a device is configured.
    fn settled(&mut self, path: &str) {
        self.until(&format!("[ -e /sys/bus/usb/devices/{path}:1.0/bInterfaceClass ]"));
    }

    fn port(&self) -> &Port {
        &self.ports[0]
    }
}

fn devices_of(list: &Value) -> Vec<(String, u64, &str, &str)> {
    let devices = list.as_array().expect("a list");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    devices
        .iter()
        .map(|device| {
            let id = device["id_product"].as_u64().unwrap_or(0);
            let mode = device["mode"].as_str().unwrap_or_default();
            (text(&device["path"]), id, mode, device["serial"].as_str().unwrap_or_default())
        })
        .collect()
}

fn lists(bench: &mut Bench) {
    assert_eq!(bench.guest.json("spark dfu list --json"), serde_json::json!([]));
    bench.plug(kind("photon"));
    let text = bench.guest.ok("spark dfu list");
    for line in [
        "2b04:d006 serial 12345 at 1-1, DFU mode\n",
        "  interface 0, DFU 1.1a (DfuSe), 4096 bytes a transfer\n",
        "  -a 0  @Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg\n",
        "        0x08020000..=0x080fffff  7 pages of 131072 bytes: read, erase, write\n",
        "  -a 1  @DCT Flash   /0x00000000/01*016Kg\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let list = bench.guest.json("spark dfu list --json");
    assert_eq!(devices_of(&list), [("1-1".to_owned(), 0xD006, "dfu", "12345")]);
    assert_eq!(list[0]["transfer_size"], 4096);
    assert_eq!(list[0]["alternates"].as_array().map(Vec::len), Some(2));
    assert_eq!(list[0]["alternates"][1]["segments"][0]["page_size"], 16384);
}

fn chooses(bench: &mut Bench) {
    bench.plug(kind("photon"));
    let second = strict();
    let dfu = Description { serial_number: "67890", ..second.dfu };
    bench.plug_at(1, Kind { dfu, ..second });
    let list = bench.guest.json("spark dfu list --json");
    let mut found = devices_of(&list);
    found.sort();
    assert_eq!(
        found,
        [("1-1".to_owned(), 0xD006, "dfu", "12345"), ("1-2.3".to_owned(), 0xD5FE, "dfu", "67890")]
    );
    let write = "spark dfu download -a 1 -s 34 -D key.der";
    let message = bench.guest.fails(74, write);
    assert!(message.contains("several devices fit") && message.contains("1-2.3"), "both are named");
    bench.guest.ok(&format!("{write} -p 1-2.3"));
    assert_eq!(bench.ports[1].memory("dct.bin")[34..646], device_key());
    assert_ne!(bench.port().memory("dct.bin")[34..646], device_key());
    bench.guest.ok(&format!("{write} -S 12345"));
    assert_eq!(bench.port().memory("dct.bin")[34..646], device_key());
    bench.guest.ok(&format!("{write} -d 2b04:d5fe"));
    let message = bench.guest.fails(74, &format!("{write} -p 1-2"));
    assert!(message.contains("no device with a DFU interface"), "a hub is none");
}

fn permission(bench: &mut Bench) {
    bench.plug(kind("photon"));
    for line in ["spark dfu list", "spark dfu upload -a 1 -s 34:612 -U /tmp/back"] {
        let message = bench.guest.fails(74, &format!("su user -c '{line}'"));
        assert!(message.contains("no permission for the USB device"), "{line}");
    }
    assert!(!bench.port().events().contains(&Event::Selected(1)));
    // Devices that others may not open are no reason to hide the one that they may.
    bench.plug_at(1, strict());
    let node = "/dev/bus/usb/001/$(printf %03d $(cat /sys/bus/usb/devices/1-2.3/devnum))";
    bench.guest.ok(&format!("chmod 666 {node}"));
    let list = bench.guest.json("su user -c 'spark dfu list --json'");
    assert_eq!(devices_of(&list), [(PATHS[1].to_owned(), 0xD5FE, "dfu", "12345")]);
    bench.ports[1].unplug();
    // udev gives permission a moment after the device appeared: who waits does not stumble over that.
    let node = node.replace(PATHS[1], PATHS[0]);
    bench.guest.ok(&format!("(sleep 2; chmod 666 {node}) >/dev/null 2>&1 &"));
    bench.guest.ok("su user -c 'spark dfu upload -w -a 1 -s 34:612 -U /tmp/back'");
}

const WRITE_IMAGE: &str = "spark dfu download -a 0 -s 0x080A0000:leave -D app.bin";
const READ_IMAGE: &str =
    "spark dfu upload -a 0 -s 0x080A0000:300000 -U /tmp/back && cmp app.bin /tmp/back && rm /tmp/back";

fn image(bench: &mut Bench) {
    for kind in [kind("photon"), strict(), other("tolerant-deaf")] {
        bench.plug(kind);
        let done = bench.guest.json(&format!("{WRITE_IMAGE} --json"));
        let memory = &done["memories"][0];
        assert_eq!((&memory["bytes_written"], &memory["bytes_verified"]), (&300_000.into(), &300_000.into()));
        assert_eq!((&memory["pages_erased"], &done["verified"]), (&3.into(), &true.into()));
        assert_eq!(done["leave"], "answered");
        assert_eq!(bench.port().memory("flash.bin")[0xA_0000..][..300_000], application());
        // Half a second after its answer.
        thread::sleep(Duration::from_millis(700));
        let events = bench.port().events();
        assert!(events.ends_with(&[Event::Left, Event::Detached]), "{events:?}");
        assert_eq!(bench.guest.json("spark dfu list --json"), serde_json::json!([]));
        bench.plug(kind);
        bench.guest.ok(READ_IMAGE);
        bench.port().unplug();
        bench.port().renew();
    }
}

/// `spark keys` and `spark dct` on a device that holds no key yet.
fn keys(bench: &mut Bench) {
    bench.plug(kind("photon"));
    let message = bench.guest.fails(65, "spark keys check >&2");
    assert!(message.contains("DOES NOT WORK"), "{message}");
    bench.guest.ok("spark keys load device.pem --backup /tmp/kept");
    assert_eq!(bench.port().memory("dct.bin")[34..646], DEVICE_KEY_FIELD[..612]);
    bench.guest.ok("spark keys server server.pem --host 10.0.0.1 --backup /tmp/kept");
    bench.guest.ok("spark keys check");
    bench.guest.ok("ls /tmp/kept/*-tcpPrivateKey-*.bin /tmp/kept/*-tcpServerKey-*.bin");
    assert_eq!(bench.guest.json("spark keys address --json")["host"], "10.0.0.1");
    bench.guest.ok("spark dct set claimed=true country_code=DE/0 --backup /tmp/kept");
    bench.guest.ok("test \"$(spark dct get claimed country_code | tr '\\n' ' ')\" = 'true DE/0 '");
    assert_eq!(bench.port().memory("dct.bin")[1825], b'1');
    bench.guest.ok("spark keys save /tmp/saved && spark keys convert /tmp/saved.der /tmp/field --field");
    bench.guest.ok("rm -r /tmp/kept /tmp/saved* /tmp/field");
}

fn key(bench: &mut Bench) {
    bench.plug(kind("photon"));
    bench.guest.ok("spark dfu download -a 1 -s 34 -D key.der");
    let mut expected: Vec<u8> = (0..16384_usize).map(|i| (7 * i + 3).to_le_bytes()[0]).collect();
    expected[34..646].copy_from_slice(&device_key());
    assert_eq!(bench.port().memory("dct.bin"), expected, "neighbours survive");
    bench.guest.ok("spark dfu upload -a 1 -s 34:612 -U /tmp/back && cmp key.der /tmp/back");
    // By name, and the other memory after it: Linux has put alternate 0 back in between.
    bench.guest.ok("spark dfu upload -a '@DCT Flash   /0x00000000/01*016Kg' -s 34:612 -U /tmp/again && cmp key.der /tmp/again");
    let events = bench.port().events();
    let selected: Vec<_> = events.iter().filter(|event| matches!(event, Event::Selected(_))).collect();
    let (one, zero) = (&Event::Selected(1), &Event::Selected(0));
    assert_eq!(
        selected,
        [one, zero, one, zero, one, zero],
        "the kernel resets the alternate setting at each release"
    );
}

/// What was erased or written.
fn changes(events: &[Event]) -> Vec<Event> {
    let is_change = |event: &&Event| {
        matches!(event, Event::Erased(..) | Event::MassErased(_) | Event::Written(..) | Event::Manifested(_))
    };
    events.iter().filter(is_change).cloned().collect()
}

fn unchanged(bench: &mut Bench) {
    bench.plug(kind("photon"));
    let line = "spark dfu download -a 0 -s 0x080A0000 --skip-unchanged -D app.bin --json";
    let first = bench.guest.json(line);
    assert_eq!(first["memories"][0]["pages_erased"], 3);
    bench.port().events();
    let second = bench.guest.json(line);
    assert_eq!(second["memories"][0]["pages_erased"], 0);
    assert_eq!(second["memories"][0]["bytes_unchanged"], 300_000);
    assert_eq!(changes(&bench.port().events()), [], "nothing is erased or written");
    assert_eq!(bench.port().memory("flash.bin")[0xA_0000..][..300_000], application());
}

fn two_alternates(bench: &mut Bench) {
    bench.plug(kind("photon"));
    bench.guest.ok("spark dfu download -D both.dfu");
    let [flash, dct] = parts();
    assert_eq!(bench.port().memory("flash.bin")[0xC_0000..][..5000], flash);
    assert_eq!(bench.port().memory("dct.bin")[34..646], dct);
    let events = bench.port().events();
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).expect("it happened");
    let flash = at(&|event| matches!(event, Event::Written(0, ..)));
    let selected = at(&|event| *event == Event::Selected(1));
    let dct = at(&|event| matches!(event, Event::Written(1, ..)));
    assert!(flash < selected && selected < dct, "{events:?}");
    let message = bench.guest.fails(64, "spark dfu download -D both.dfu -s 0x08020000");
    assert!(message.contains("its own addresses"), "usage errors are the same here");
}

fn commands(bench: &mut Bench) {
    bench.plug(strict());
    bench.guest.ok("spark dfu command -a 0 -s :mass-erase:force");
    assert!(bench.port().memory("flash.bin")[0x2_0000..].iter().all(|byte| *byte == 0xFF));
    assert_eq!(changes(&bench.port().events()), [Event::MassErased(0)]);
    // The device drops off the bus and comes back.
    let number = bench.guest.ok("cat /sys/bus/usb/devices/1-1/devnum");
    bench.guest.ok("spark dfu command -a 0 -s :unprotect:force");
    bench.until(&format!("[ $(cat /sys/bus/usb/devices/1-1/devnum || echo {0}) != {0} ]", number.trim()));
    bench.settled("1-1");
    let events = bench.port().events();
    assert!(
        events.windows(2).any(|part| part == [Event::Detached, Event::Attached(Mode::Dfu)]),
        "{events:?}"
    );
    bench.guest.ok("spark dfu command -a 0 -s 0x08020000:leave");
    bench.until_event(|event| *event == Event::Left);
    bench.plug(kind("photon"));
    let message = bench.guest.fails(76, "spark dfu command -a 0 -s :mass-erase:force");
    assert!(message.contains("do not know this command"), "a Photon stalls it");
    // The device still works.
    bench.guest.ok("spark dfu upload -a 1 -s 34:612 -U /tmp/back");
}

const LIST: &str = "spark dfu list --json";

fn one_of(bench: &mut Bench) -> (u64, String) {
    let list = bench.guest.json(LIST);
    let [(_, id, mode, _)] = &*devices_of(&list) else { panic!("one device") };
    (*id, (*mode).to_owned())
}

fn dfu_mode() -> (u64, String) {
    (0xD0DF, "dfu".to_owned())
}

fn run_time() -> (u64, String) {
    (0xC0DE, "runtime".to_owned())
}

fn detach_by_reset(bench: &mut Bench) {
    bench.plug(kind("runtime"));
    assert_eq!(one_of(bench), run_time());
    let done = bench.guest.json("spark dfu detach --json");
    assert_eq!(
        (&done["already_in_dfu_mode"], &done["device"]["id_product"]),
        (&false.into(), &0xD0DF.into())
    );
    let events = bench.port().events();
    assert!(
        events.starts_with(&[Event::DetachRequest, Event::Reset, Event::Attached(Mode::Dfu)]),
        "the host resets the bus: {events:?}"
    );
    assert!(!events.contains(&Event::Detached), "{events:?}");
    assert_eq!(one_of(bench), dfu_mode());
    let done = bench.guest.json("spark dfu detach --json");
    assert_eq!(done["already_in_dfu_mode"], true);
    // Not manifestation tolerant: the host resets it into its application.
    let done = bench.guest.json("spark dfu download -D plain.bin --json");
    assert_eq!((&done["manifestation"], &done["bytes_written"]), (&"reset".into(), &50_000.into()));
    let events = bench.port().events();
    let end = [Event::Manifested(50_000), Event::Reset, Event::Left, Event::Attached(Mode::Runtime)];
    assert!(events.windows(4).any(|part| part == end), "{events:?}");
    assert_eq!(bench.port().memory("image.bin")[..50_000], plain_image());
    bench.settled_as(&run_time());
}

fn detach_by_itself(bench: &mut Bench) {
    bench.plug(kind("runtime-detaches"));
    assert_eq!(one_of(bench), run_time());
    bench.guest.ok("spark dfu detach");
    let events = bench.port().events();
    assert!(
        events.starts_with(&[Event::DetachRequest, Event::Detached, Event::Attached(Mode::Dfu)]),
        "{events:?}"
    );
    assert_eq!(one_of(bench), dfu_mode());
    let message = bench.guest.fails(64, "spark dfu download -s 0 -D plain.bin");
    assert!(message.contains("plain DFU"), "it has no addresses");
}

fn from_run_time(bench: &mut Bench) {
    bench.plug(kind("runtime"));
    let done = bench.guest.json("spark dfu download -D plain.bin --json");
    assert_eq!((&done["manifestation"], &done["device"]["id_product"]), (&"reset".into(), &0xD0DF.into()));
    assert_eq!(bench.port().memory("image.bin")[..50_000], plain_image());
    bench.settled_as(&run_time());
    let run = bench.guest.run("spark dfu download -D plain.bin -R");
    assert!(run.code == 0 && !run.stderr.contains("not reset"), "it was reset already");
    bench.settled_as(&run_time());
    // Upload takes it to DFU mode, too.
    bench.guest.ok("spark dfu upload -U /tmp/back && head -c 50000 /tmp/back | cmp - plain.bin && [ $(wc -c </tmp/back) = 100000 ]");
    assert_eq!(one_of(bench), dfu_mode());
}

fn tolerant(bench: &mut Bench) {
    bench.plug(kind("runtime-detaches"));
    let done = bench.guest.json("spark dfu download -D plain.bin --json");
    assert_eq!(done["manifestation"], "idle");
    assert_eq!(bench.port().memory("image.bin")[..50_000], plain_image());
    assert_eq!(one_of(bench), dfu_mode());
    // It is there for more.
    bench.guest.ok("spark dfu upload -U /tmp/back && head -c 50000 /tmp/back | cmp - plain.bin");
}

fn leaves_by_itself(bench: &mut Bench) {
    bench.plug(leaving());
    let done = bench.guest.json("spark dfu download -D plain.bin --json");
    let manifestation = done["manifestation"].as_str();
    // The host's reset and the device's own way out run a race; both end in the application.
    assert!(matches!(manifestation, Some("reset" | "disconnected")), "{manifestation:?}");
    assert_eq!(bench.port().memory("image.bin")[..50_000], plain_image());
    thread::sleep(Duration::from_millis(500));
    bench.settled_as(&run_time());
}

fn old(bench: &mut Bench) {
    bench.plug(kind("dfu-1.0"));
    let text = bench.guest.ok("spark dfu list");
    assert!(text.contains("DFU 1.0, 1024 bytes a transfer"), "the short functional descriptor");
    bench.guest.ok("spark dfu download -D plain.bin -R");
    let events = bench.port().events();
    assert_eq!(changes(&events).last(), Some(&Event::Manifested(50_000)));
    assert_eq!(events.last(), Some(&Event::Reset), "-R: {events:?}");
    bench.guest.ok("spark dfu upload -U /tmp/back && head -c 50000 /tmp/back | cmp - plain.bin");
}

/// Detaching with another DFU device on the bus, and with an interface that is not the first.
fn behind_a_hub(bench: &mut Bench) {
    bench.plug(kind("dfu-1.0"));
    for name in ["runtime", "runtime-detaches"] {
        let third = |description| Description { interface: 3, ..description };
        let kind = kind(name);
        let kind = Kind { dfu: third(kind.dfu), runtime: kind.runtime.map(third), ..kind };
        bench.ports[1].unplug();
        bench.gone(PATHS[1]);
        bench.ports[1].plug(kind);
        bench.until("[ -e /sys/bus/usb/devices/1-2.3:1.3/bInterfaceClass ]");
        let done = bench.guest.json("spark dfu download -p 1-2.3 -D plain.bin --json");
        assert_eq!((&done["device"]["path"], &done["device"]["interface"]), (&PATHS[1].into(), &3.into()));
        assert_eq!(bench.ports[1].memory("image.bin")[..50_000], plain_image());
        assert_eq!(changes(&bench.port().events()), [], "the other device is left alone");
        bench.ports[1].renew();
    }
}

/// The host takes 4096 bytes at a time where the device could take more.
fn large_blocks(bench: &mut Bench) {
    let kind = kind("dfu-1.0");
    let mut dfu = kind.dfu;
    (dfu.functional.transfer_size, dfu.functional.dfu_version) = (16_384, 0x0110);
    bench.plug(Kind { dfu, ..kind });
    assert_eq!(bench.guest.json(LIST)[0]["transfer_size"], 16_384);
    bench.guest.ok("spark dfu download -D plain.bin");
    assert_eq!(bench.port().memory("image.bin")[..50_000], plain_image());
    let events = changes(&bench.port().events());
    assert_eq!(events.first(), Some(&Event::Written(0, 0, 4096)));
    bench.guest.ok("spark dfu upload -U /tmp/back && head -c 50000 /tmp/back | cmp - plain.bin && [ $(wc -c </tmp/back) = 100000 ]");
}

fn unplugged(bench: &mut Bench) {
    for kind in [kind("photon"), strict()] {
        bench.plug(kind);
        // Two pages have 32 blocks, an erase and two addresses each: in the middle of the third.
        bench.port().unplug_after(76);
        let line = "spark dfu download -a 0 -s 0x080A0000 -D app.bin --journal /tmp/journal";
        let message = bench.guest.fails(74, line);
        assert!(message.contains("the device disconnected while"), "{message}");
        assert!(message.contains("plug the device in again"), "{message}");
        let pages = |events: &[Event]| -> Vec<u32> {
            events
                .iter()
                .filter_map(|event| if let Event::Erased(0, at) = event { Some(*at) } else { None })
                .collect()
        };
        let first = pages(&bench.port().events());
        assert!(first.len() >= 2, "{first:x?}");
        let message = bench.guest.fails(74, line);
        assert!(message.contains("no device with a DFU interface"), "{message}");
        bench.plug(kind);
        let text = bench.guest.run(line);
        assert_eq!(text.code, 0);
        let kept = first.len() - 1;
        assert!(text.stderr.contains(&format!("goes on: {kept} page")), "{text:?}");
        let second = pages(&bench.port().events());
        assert_eq!(second.first(), first.last(), "the page that was begun is erased again");
        assert_eq!(first.len() + second.len(), 4);
        assert_eq!(bench.port().memory("flash.bin")[0xA_0000..][..300_000], application());
        bench.guest.ok("[ ! -e /tmp/journal ]");
        bench.port().unplug();
        bench.port().renew();
    }
}

fn unplugged_plain(bench: &mut Bench) {
    let runtime = kind("runtime");
    bench.plug(runtime);
    bench.port().unplug_after(7);
    let message = bench.guest.fails(74, "spark dfu download -D plain.bin");
    assert!(message.contains("the device disconnected while writing (block 7"), "{message}");
    // Nobody comes back.
    bench.plug(kind("runtime-detaches"));
    let port = bench.port().clone();
    let puller = thread::spawn(move || {
        while !port.events().contains(&Event::DetachRequest) {
            thread::sleep(Duration::from_millis(1));
        }
        port.unplug();
    });
    let start = Instant::now();
    let message = bench.guest.fails(74, "spark dfu detach -E 1");
    assert!(message.contains("did not come back"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(4), "-E is obeyed");
    puller.join().expect("the plug was pulled");
}

fn deaf(bench: &mut Bench) {
    bench.plug(kind("photon"));
    bench.port().set_deaf(true);
    let message = bench.guest.fails(74, "spark dfu upload -a 1 -s 34:612 -U /tmp/back");
    assert!(message.contains("the device did not answer in time while connecting"), "{message}");
    bench.guest.ok("[ ! -e /tmp/back ]");
    bench.port().set_deaf(false);
    bench.guest.ok("spark dfu upload -a 1 -s 34:612 -U /tmp/back");
}

fn busy(bench: &mut Bench) {
    bench.plug(strict());
    bench.guest.ok("spark dfu download -a 0 -s 0x080A0000 -D app.bin >/tmp/first 2>&1 & echo $! >/tmp/pid");
    bench.until_event(|event| matches!(event, Event::Written(..)));
    bench.guest.ok("kill -STOP $(cat /tmp/pid)");
    assert_eq!(devices_of(&bench.guest.json(LIST)).len(), 1, "it is listed all the same");
    let message = bench.guest.fails(74, "spark dfu upload -a 1 -s 34:612 -U /tmp/other");
    assert!(message.contains("another program uses the USB device"), "{message}");
    // The download never notices.
    bench.guest.ok("kill -CONT $(cat /tmp/pid)");
    bench.until("[ ! -e /proc/$(cat /tmp/pid) ]");
    assert_eq!(bench.port().memory("flash.bin")[0xA_0000..][..300_000], application());
}

fn interrupted(bench: &mut Bench) {
    bench.plug(strict());
    let line = "spark dfu download -a 0 -s 0x080A0000 -D app.bin --journal /tmp/journal";
    bench.guest.ok(&format!("{line} >/tmp/first 2>&1 & echo $! >/tmp/pid"));
    bench.until_event(|event| matches!(event, Event::Written(0, 0x080C_0000.., _)));
    bench.guest.ok("kill -INT $(cat /tmp/pid)");
    bench.until("[ ! -e /proc/$(cat /tmp/pid) ]");
    let message = bench.guest.ok("cat /tmp/first");
    assert!(message.contains("cancelled while"), "{message}");
    let run = bench.guest.run(line);
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("goes on: 1 page complete"), "the device was left in order");
    assert_eq!(bench.port().memory("flash.bin")[0xA_0000..][..300_000], application());
    // Killed, it leaves the device in the middle of a download; the next job gets it out of that.
    bench.guest.ok("spark dfu download -a 0 -s 0x080A0000 -D app.bin >/dev/null 2>&1 & echo $! >/tmp/pid");
    bench.until_event(|event| matches!(event, Event::Written(..)));
    bench.guest.ok("kill -KILL $(cat /tmp/pid)");
    bench.until("[ ! -e /proc/$(cat /tmp/pid) ]");
    bench.guest.ok("spark dfu download -a 1 -s 34 -D key.der");
    assert_eq!(bench.port().memory("dct.bin")[34..646], device_key());
}

fn waits(bench: &mut Bench) {
    let port = bench.port().clone();
    let plugger = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        port.plug(kind("photon"));
    });
    let start = Instant::now();
    bench.guest.ok("spark dfu download -w -d 2b04:d006 -a 1 -s 34 -D key.der");
    assert!(start.elapsed() > Duration::from_secs(1));
    assert_eq!(bench.port().memory("dct.bin")[34..646], device_key());
    plugger.join().expect("the device was plugged in");
}

fn dfu_util(bench: &mut Bench) {
    for kind in [kind("photon"), strict()] {
        bench.plug(kind);
        let text = bench.guest.ok("dfu-util -l");
        assert_eq!(text.matches("Found DFU: [2b04:d").count(), 2);
        bench.guest.ok("dfu-util -a 1 -s 34 -D key.der");
        bench.guest.ok("dfu-util -a 1 -s 34:612 -U /tmp/key && cmp key.der /tmp/key && rm /tmp/key");
        bench.guest.ok("dfu-util -a 0 -s 0x080A0000:leave -D app.bin");
        assert_eq!(bench.port().memory("flash.bin")[0xA_0000..][..300_000], application());
        assert_eq!(bench.port().memory("dct.bin")[34..646], device_key());
        thread::sleep(Duration::from_millis(700));
        bench.plug(kind);
        bench
            .guest
            .ok("dfu-util -a 0 -s 0x080A0000:300000 -U /tmp/back && cmp app.bin /tmp/back && rm /tmp/back");
        // What one wrote the other reads.
        bench.guest.ok(READ_IMAGE);
        bench.port().unplug();
        bench.port().renew();
    }
    bench.plug(kind("photon"));
    bench.guest.ok("dfu-util -D both.dfu");
    let [flash, dct] = parts();
    assert_eq!(bench.port().memory("flash.bin")[0xC_0000..][..5000], flash);
    assert_eq!(bench.port().memory("dct.bin")[34..646], dct);
}

fn dfu_util_runtime(bench: &mut Bench) {
    // Two calls: libusb learns of a new device from udevd, which is not here, and dfu-util would not find it.
    for (name, tolerant) in [("runtime", false), ("runtime-detaches", true)] {
        bench.plug(kind(name));
        bench.guest.ok("dfu-util -e -d 2b04:c0de,2b04:d0df");
        bench.settled_as(&dfu_mode());
        let reset = if tolerant { "-R" } else { "" };
        let run = bench.guest.run(&format!("dfu-util -d ,2b04:d0df -D plain.bin {reset}"));
        // That the reset makes another device of this one is a failure to it (LIBUSB_ERROR_NOT_FOUND).
        let code = if tolerant { 251 } else { 74 };
        assert!(run.code == 0 || run.code == code && run.stdout.contains("Done!"));
        assert_eq!(bench.port().memory("image.bin")[..50_000], plain_image());
        bench.settled_as(&run_time());
        bench.port().unplug();
        bench.port().renew();
    }
}
