//! `spark device` against a server of its own: one device, fleets, and what they tell.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use coap_spark::coap::{Code, Token};
use coap_spark::connection::{RequestKind, ServerPolicy};
use coap_spark::handshake::DeviceId;
use coap_spark::message::system_event::RESET;
use coap_spark::message::{self, FromDevice, FromServer, Name, Response};
use coap_spark::tokio::{Event, ServerStream};
use core::time::Duration;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::Value;
use spark_cli::device::fleet::{Counts, Fleet, Keys, Orders, Recipe};
use spark_cli::device::program::Periodic;
use spark_keys::{RsaPublicKeyView, rsa_backend};
use spark_sim::{Answer, Firmware, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};

static SERVER_KEY: LazyLock<Arc<RsaPrivateKey>> =
    LazyLock::new(|| Arc::new(rsa_backend::generate_server_key(&mut rand::rng()).unwrap()));

/// What the server does with a device that has said Hello.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Calls `brew`, reads `temp`, sends an event, waits for one, and closes.
    Visit,
    /// Restarts it, once.
    Restart,
    /// Calls `brew` and stays.
    Stay,
}

/// What one device answered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Heard {
    flags: u8,
    offered: Vec<u8>,
    function: Option<i32>,
    variable: Option<Vec<u8>>,
    event: Option<String>,
    claim_code: Option<String>,
}

struct Server {
    _runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    heard: Arc<Mutex<BTreeMap<DeviceId, Heard>>>,
}

impl Server {
    fn start(script: Script) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(BTreeMap::new()));
        let all = Arc::clone(&heard);
        runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, script, Arc::clone(&all)));
            }
        });
        Self { _runtime: runtime, address, heard }
    }

    fn heard(&self) -> BTreeMap<DeviceId, Heard> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve(socket: TcpStream, script: Script, all: Arc<Mutex<BTreeMap<DeviceId, Heard>>>) {
    let mut offered = Vec::new();
    let look_up = async |_, key: Option<[u8; 162]>| {
        offered = key?.to_vec();
        rsa_backend::to_rsa_public(&RsaPublicKeyView::parse_spki(&key?).unwrap()).ok()
    };
    let key = Arc::clone(&SERVER_KEY);
    let accepted = ServerStream::<_>::accept::<_, RsaPublicKey, _>(
        socket,
        key,
        ServerPolicy::DEFAULT,
        rand::rng,
        look_up,
    );
    let Ok((id, mut device)) = accepted.await else { return };
    let is_first = !all.lock().unwrap().contains_key(&id);
    let note = |change: &dyn Fn(&mut Heard)| {
        let mut all = all.lock().unwrap();
        let heard = all.entry(id).or_default();
        change(heard);
        heard.function.is_some() && heard.variable.is_some() && heard.event.is_some()
    };
    note(&|heard| *heard = Heard { offered: offered.clone(), ..Heard::default() });
    while let Ok(Event::Message(message)) = device.next().await {
        let mut next: Option<FromServer<'_>> = None;
        let mut owed: Option<(u16, Token)> = None;
        let mut complete = false;
        let alarm = message::Event {
            name: Name::new("alarm/fire"),
            public: false,
            max_age: None,
            data: Some(b"now"),
        };
        match (message.body, message.answers.map(|answers| answers.kind)) {
            (FromDevice::Hello(hello), _) => {
                let flags = hello.flags.unwrap_or_default().0;
                note(&|heard| heard.flags = flags);
                next = Some(FromServer::FunctionCall { name: b"brew", argument: b"coffee" });
                if script == Script::Restart {
                    let (name, data) = (Name::new(RESET), Some(&b"safe mode"[..]));
                    let reset = message::Event { name, data, ..alarm };
                    next = is_first.then_some(FromServer::Event(reset));
                }
            }
            (FromDevice::Response(response), Some(RequestKind::Function)) => {
                let result = i32::from_be_bytes(response.payload.try_into().unwrap());
                note(&|heard| heard.function = Some(result));
                if script == Script::Visit {
                    next = Some(FromServer::VariableRequest { name: b"temp" });
                }
            }
            (FromDevice::Response(response), Some(RequestKind::Variable)) => {
                complete = note(&|heard| heard.variable = Some(response.payload.to_vec()));
                next = Some(FromServer::Event(alarm));
            }
            (FromDevice::Event(event), _) => {
                let data = String::from_utf8(event.data.unwrap_or_default().to_vec()).unwrap();
                if event.name == "tick" {
                    complete = note(&|heard| heard.event = Some(data.clone()));
                } else if event.name == "spark/device/claim/code" {
                    note(&|heard| heard.claim_code = Some(data.clone()));
                }
            }
            (FromDevice::Subscribe(_), _) => owed = Some((message.id, message.token)),
            _ => {}
        }
        if let Some((id, token)) = owed {
            let acknowledgement = Response { code: Code::EMPTY, payload: &[] };
            device.respond(id, token, acknowledgement).await.unwrap();
        }
        let sent = match next {
            Some(event @ FromServer::Event(_)) => device.send(event).await.map(drop),
            Some(request) => device.request(request).await.map(drop),
            None => Ok(()),
        };
        if sent.is_err() || script == Script::Visit && complete {
            // A moment for the event to arrive.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return;
        }
    }
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.write_key("server.pub.pem", &SERVER_KEY);
        bench
    }

    fn write_key(&self, name: &str, key: &RsaPrivateKey) {
        let spki = rsa_backend::server_spki(key.as_public_key()).unwrap();
        std::fs::write(self.path(name), spki).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program; options that begin with `@` are paths in the folder.
    fn device(&self, server: &Server, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command.args(["device", "--connect", &server.address.to_string()]);
        for option in options {
            match option.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(option),
            };
        }
        command.output().unwrap()
    }

    /// The same with `--json`: its lines by device.
    fn lines(&self, server: &Server, options: &[&str]) -> BTreeMap<DeviceId, Vec<Value>> {
        let output = self.device(server, &[options, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut lines: BTreeMap<DeviceId, Vec<Value>> = BTreeMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let id = line["device_id"].as_str().unwrap().parse().unwrap();
            lines.entry(id).or_default().push(line);
        }
        lines
    }
}

fn find<'l>(lines: &'l [Value], happening: &str) -> &'l Value {
    lines
        .iter()
        .find(|line| line["happening"] == happening)
        .unwrap_or_else(|| panic!("{happening}: {lines:?}"))
}

#[test]
fn fleet_of_every_firmware_does_what_its_options_say_and_keeps_its_identity() {
    let (bench, server) = (Bench::new(), Server::start(Script::Visit));
    let common = [
        ["--data", "@fleet"],
        ["--count", "12"],
        ["--connections", "1"],
        ["--function", "brew=7"],
        ["--variable", "temp=double:21.5"],
        ["--event", "tick=n{n}@0.3"],
        ["--subscribe", "alarm"],
        ["--public-keys", "@keys"],
    ]
    .concat();
    let new = [&common[..], &["--server-key", "@server.pub.pem", "--profile", "mixed"]].concat();
    let lines = bench.lines(&server, &new);
    let heard = server.heard();
    assert_eq!((lines.len(), heard.len()), (12, 12));
    for (id, lines) in &lines {
        let kinds: Vec<&str> = lines.iter().map(|line| line["happening"].as_str().unwrap()).collect();
        assert_eq!(kinds[..3], ["started", "connecting", "connected"], "{kinds:?}");
        assert_eq!(find(lines, "started")["mode"], "running");
        let called = find(lines, "function-called");
        assert_eq!(
            (&called["name"], &called["argument"], &called["result"]),
            (&"brew".into(), &"coffee".into(), &7.into())
        );
        assert_eq!(find(lines, "variable-read")["found"], true);
        let published = find(lines, "event-published");
        assert_eq!((&published["name"], &published["data"]), (&"tick".into(), &"n1".into()));
        let received = find(lines, "event-received");
        assert_eq!((&received["name"], &received["data"]), (&"alarm/fire".into(), &"now".into()));
        assert_eq!(received["receiver"], "application");
        let last = lines.last().unwrap();
        assert_eq!((&last["happening"], &last["code"]), (&"disconnected".into(), &"closed".into()));
        assert!(last["diagnosis"].is_null());

        let said = &heard[id];
        assert_eq!((said.function, said.event.as_deref()), (Some(7), Some("n1")));
        assert_eq!(said.variable.as_deref(), Some(&21.5_f64.to_le_bytes()[..]));
        // The key that it offers is the one that the server is to know.
        let mut buffer = [0; 1024];
        let pem = std::fs::read(bench.path("keys").join(format!("{id}.pub.pem"))).unwrap();
        let (_, der) = spark_keys::pem::decode(&pem, &mut buffer).unwrap();
        assert_eq!(der, said.offered);
    }
    // 12 devices of 10 kinds.
    let mut flags: Vec<u8> = heard.values().map(|heard| heard.flags).collect();
    flags.sort_unstable();
    assert_eq!(flags, [0, 0, 0, 0, 0, 0, 2, 2, 2, 6, 6, 0x16]);
    let folder = |at: usize| bench.path("fleet").join(format!("{at:04}"));
    assert!((1..=12).all(|at| folder(at).join("flash.bin").exists()) && !folder(13).exists());

    // They are the same when they run again, and so is one of them that runs alone.
    let again = bench.lines(&server, &common);
    assert!(again.keys().eq(lines.keys()));
    assert_eq!(server.heard().values().map(|heard| heard.flags).max(), Some(0x16), "so are their profiles");
    let alone = ["--data", "@fleet/0003", "--connections", "1", "--variable", "temp=1", "--event", "tick@1"];
    let alone = bench.lines(&server, &alone);
    assert!(alone.len() == 1 && lines.contains_key(alone.keys().next().unwrap()));
}

#[test]
fn devices_in_memory_share_a_key_and_count_on_from_the_first_id() {
    let (bench, server) = (Bench::new(), Server::start(Script::Visit));
    let options = |count: &'static str| {
        [
            ["--data", "@fleet"],
            ["--count", count],
            ["--connections", "1"],
            ["--id", "0000000000000000000000fe"],
            ["--server-key", "@server.pub.pem"],
            ["--variable", "temp=1"],
            ["--event", "tick@1"],
            ["--claim-code", "AbC"],
            ["--in-memory", "--shared-key"],
        ]
        .concat()
    };
    let ids = |from: u32, to: u32| (from..to).map(|id| format!("{id:024x}").parse().unwrap());
    let first: BTreeSet<DeviceId> = bench.lines(&server, &options("3")).into_keys().collect();
    assert!(first.iter().copied().eq(ids(0xfe, 0x101)));
    let more = bench.lines(&server, &options("5"));
    assert!(more.into_keys().eq(ids(0xfe, 0x103)));
    let heard = server.heard();
    let offered: BTreeSet<&Vec<u8>> = heard.values().map(|heard| &heard.offered).collect();
    assert_eq!(offered.len(), 1);
    assert!(heard.values().all(|heard| heard.claim_code.as_deref() == Some("AbC")));
    let names = || std::fs::read_dir(bench.path("fleet")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(
        names().count(),
        7,
        "five public keys, one private one, the list: {:?}",
        names().collect::<Vec<_>>()
    );
    let list: Value =
        serde_json::from_slice(&std::fs::read(bench.path("fleet/fleet.json")).unwrap()).unwrap();
    assert_eq!(list["devices"][4]["public_key"], "000000000000000000000102.pub.pem");
}

#[test]
fn wrong_server_key_gives_the_row_of_the_diagnosis() {
    let (bench, server) = (Bench::new(), Server::start(Script::Visit));
    bench.write_key("other.pub.pem", &rsa_backend::generate_server_key(&mut rand::rng()).unwrap());
    let options = ["--data", "@device", "--server-key", "@other.pub.pem", "--connections", "1"];
    let lines = bench.lines(&server, &options);
    let last = lines.values().next().unwrap().last().unwrap();
    assert_eq!((&last["happening"], &last["code"]), (&"disconnected".into(), &"handshake".into()));
    assert_eq!(last["diagnosis"]["code"], "dropped-after-identity");
    assert!(last["diagnosis"]["action"].as_str().unwrap().contains("server"), "{last}");

    // With the right one it is well.
    let options = ["--data", "@device", "--server-key", "@server.pub.pem", "--connections", "1"];
    let options = [&options[..], &["--variable", "temp=1", "--event", "tick@1"]].concat();
    find(lines_of_one(&bench.lines(&server, &options)), "connected");

    // Nobody there: the same in words for a person.
    let nobody = Server { address: "127.0.0.1:1".parse().unwrap(), ..server };
    let output =
        bench.device(&nobody, &["--data", "@device", "--connections", "1", "--reconnect-after", "0"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot connect to 127.0.0.1:1"));
    let lines = bench.lines(&nobody, &["--data", "@device", "--connections", "1", "--reconnect-after", "0"]);
    assert_eq!(lines_of_one(&lines).last().unwrap()["diagnosis"]["code"], "cloud-unreachable");
}

fn lines_of_one(lines: &BTreeMap<DeviceId, Vec<Value>>) -> &[Value] {
    assert_eq!(lines.len(), 1);
    lines.values().next().unwrap()
}

#[test]
fn server_restarts_a_device_in_safe_mode() {
    let (bench, server) = (Bench::new(), Server::start(Script::Restart));
    let options = ["--data", "@device", "--server-key", "@server.pub.pem", "--connections", "1"];
    let lines = bench.lines(&server, &options);
    let lines = lines_of_one(&lines);
    let reset = find(lines, "reset");
    assert_eq!(reset["code"], "safe-mode");
    let last = lines.last().unwrap();
    assert_eq!((&last["happening"], &last["mode"]), (&"started".into(), &"safe-mode".into()));
}

#[test]
fn given_key_is_used_and_bad_options_are_refused() {
    let (bench, server) = (Bench::new(), Server::start(Script::Visit));
    let key = rsa_backend::generate_device_key(&mut rand::rng()).unwrap();
    std::fs::write(bench.path("key.der"), key.as_der()).unwrap();
    let options = [
        ["--data", "@device"],
        ["--server-key", "@server.pub.pem"],
        ["--device-key", "@key.der"],
        ["--connections", "1"],
        ["--variable", "temp=1"],
        ["--event", "tick@1"],
    ]
    .concat();
    bench.lines(&server, &options);
    assert_eq!(server.heard().values().next().unwrap().offered, key.public_key());

    for options in [
        &["--data", "@a", "--profile", "S9"][..],
        &["--data", "@a", "--event", "tick"],
        &["--data", "@a", "--variable", "x=int:y"],
        &["--data", "@a", "--function", "brew=tea"],
        &["--data", "@a", "--in-memory"],
        &["--data", "@a", "--count", "0"],
        &["--data", "@a", "--reconnect-after", "-1"],
        &["--data", "@a", "--connect-rate", "0"],
        &["--data", "@a", "--function", "x", "--function", "x"],
        &["--data", "@a", "--count", "2", "--device-key", "@key.der"],
        &["--data", "@device", "--id", "0000000000000000000000fe"],
    ] {
        let output = bench.device(&server, options);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{options:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(!Path::new(&bench.path("a")).exists(), "nothing is made before all options are checked");
}

/// Idle devices that are measured, and what one may take.
#[cfg(target_os = "linux")]
const MEASURED: [usize; 2] = [100, 1100];
#[cfg(target_os = "linux")]
const MEMORY: usize = 16 * 1024;

#[cfg(target_os = "linux")]
#[test]
fn idle_device_takes_little_memory() {
    let (bench, server) = (Bench::new(), Server::start(Script::Stay));
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let measure = |count: usize| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spark"))
            .args(["device", "--in-memory", "--shared-key", "--count", &count.to_string(), "--data"])
            .arg(bench.path(&count.to_string()))
            .args(["--connect", &server.address.to_string(), "--server-key"])
            .arg(bench.path("server.pub.pem"))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let (started, before) = (Instant::now(), server.heard().len());
        let online = || server.heard().values().filter(|heard| heard.function.is_some()).count();
        while online() < before + count {
            assert!(started.elapsed() < Duration::from_secs(120), "{} of {count}", online() - before);
            std::thread::sleep(Duration::from_millis(20));
        }
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
        let line = read("status").lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        // User and system time, in hundredths of a second.
        let stat = read("stat");
        let times = stat.rsplit(')').next().unwrap().split(' ').skip(12).take(2);
        let cpu: u32 = times.map(|time| time.parse::<u32>().unwrap()).sum();
        child.kill().unwrap();
        child.wait().unwrap();
        println!("{count} devices: {line}, {cpu}0 ms of processor time");
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let [few, many] = MEASURED.map(measure);
    let each = many.saturating_sub(few) / (MEASURED[1] - MEASURED[0]);
    println!("{each} bytes a device");
    assert!(each <= MEMORY, "{each} bytes a device");
}

#[test]
fn fleet_of_the_library_counts_what_it_does_and_stops() {
    let server = Server::start(Script::Stay);
    let server_key = rsa_backend::server_spki(SERVER_KEY.as_public_key()).unwrap();
    let key = rsa_backend::generate_device_key(&mut rand::rng()).unwrap();
    let mut program = Program::default();
    program.add_function("brew", Answer::Length).unwrap();
    let mut recipe = Recipe::new(40, server_key, Keys::Shared(Box::new(key)));
    recipe.program = Arc::new(program);
    recipe.profiles = Firmware::all().iter().collect();
    let fleet = Fleet::new(&recipe, &mut rand::rng()).unwrap();
    assert_eq!(fleet.devices().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), 40);
    let too_few = Recipe::new(2, server_key, Keys::Own(Vec::new()));
    assert!(Fleet::new(&too_few, &mut rand::rng()).is_err());

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut orders = Orders::new(&server.address.to_string());
        orders.connect_rate = Some(1000.0);
        orders.events = vec![Periodic::new("tick", "{n} {t}", Duration::from_millis(500))];
        orders.hold_events = true;
        let running = fleet.start(&orders);
        assert!(running.wait_online(40, Duration::from_secs(30)).await, "{:?}", running.last_errors());
        assert_eq!(running.watch().connect_times().len(), 40);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(running.counts().published, 0, "they were not told to");
        running.publish(true);
        let started = Instant::now();
        let done = |counts: Counts| counts.functions >= 40 && counts.published >= 80;
        while !done(running.counts()) {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", running.counts());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.publish(false);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let published = running.counts().published;
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(running.counts().published, published);
        let watch = running.watch();
        let counts = watch.counts();
        assert_eq!((counts.online, counts.connections, counts.handshakes_failed), (40, 40, 0));
        assert_eq!((counts.lost, counts.not_published, watch.last_errors().len()), (0, 0, 0));
        let fleet = running.stop().await.unwrap();
        assert_eq!((fleet.devices().count(), watch.counts().online), (40, 0));
    });
    for heard in server.heard().values() {
        assert_eq!(heard.function, Some(6));
        // The time travels with the event.
        let (_, sent) = heard.event.as_deref().unwrap().split_once(' ').unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
        assert!(now - sent.parse::<u128>().unwrap() < 60_000_000);
    }
}
