//! A day on the road for `spark cloud serve`: devices come and go, cleanly and not, take updates and are called, while
//! strangers do what strangers do. Memory and open files have to stay as they are.
//!
//! ```text
//! cargo build --release --bin spark
//! cargo run --release -p spark-cloud-benches --bin cloud_road -- [--minutes 6]
//! ```
//!
//! Six minutes are an hour: as many connections as ten thousand devices make in it that each come back five times.
//!
//! After a fifth of the time the server has everything that it needs: from then on its memory may grow by a twentieth. Once
//! all have left, it has as many files open as before, and knows who is online. What it acknowledged is still there after
//! it is killed. Ends with 1 if not. Needs Linux.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a tool for measurements"
)]

#[path = "../process.rs"]
mod process;
#[path = "../server.rs"]
mod server;
#[path = "../strangers.rs"]
mod strangers;

use clap::Parser;
use coap_spark::handshake::DeviceId;
use process::mib;
use rand::RngExt;
use server::Server;
use spark_cli::device::fleet::{Fleet, Keys, Orders, Recipe};
use spark_cli::device::program::Periodic;
use spark_keys::{DeviceKey, RsaPrivateKeyView, rsa_backend};
use std::collections::HashMap;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use strangers::Victim;
use tokio::runtime::Handle;

/// Devices that stay connected.
const STEADY: usize = 100;
/// Groups of devices that come and go, and devices of each.
const GROUPS: u8 = 8;
const GROUP: usize = 10;
/// Devices that are updated together, and how many such groups there are: they come again with old firmware.
const UPDATED: usize = 4;
const UPDATED_GROUPS: usize = 10;
/// Keys of strangers that the cloud keeps; it begins with all of them, so that it has nothing to gather.
const STRANGERS: u16 = 1000;
/// Known devices whose names strangers use.
const VICTIMS: usize = 20;
/// The connections that ask for the metrics are open files, too; one may have ended and not be closed yet.
const OWN_FILES: usize = 2;
/// How much memory may grow.
const GROWTH: f64 = 1.05;
const SAMPLE: Duration = Duration::from_millis(500);

#[derive(Parser, Debug)]
struct Args {
    /// How long.
    #[arg(long, default_value_t = 6.0)]
    minutes: f64,
    /// The program; otherwise the one in the same target folder.
    #[arg(long)]
    spark: Option<PathBuf>,
    /// Options for `spark cloud serve`.
    #[arg(last = true)]
    serve: Vec<String>,
}

/// What was done, and by honest devices in vain.
#[derive(Debug, Default)]
struct Done {
    connections: AtomicU64,
    failed: AtomicU64,
    calls: AtomicU64,
    calls_failed: AtomicU64,
    updates: AtomicU64,
    streams: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn copy(key: &DeviceKey) -> Box<DeviceKey> {
    Box::new(DeviceKey::from_view(&RsaPrivateKeyView::parse(key.as_der()).unwrap()).unwrap())
}

/// The first id of a kind of devices.
fn first(kind: u8) -> DeviceId {
    DeviceId([kind, 0x5e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// Makes fleets of one key.
struct Maker {
    server_key: [u8; 294],
    key: DeviceKey,
}

impl Maker {
    fn fleet(&self, first: DeviceId, count: usize, outdated: bool) -> Fleet {
        let mut recipe = Recipe::new(count, self.server_key, Keys::Shared(copy(&self.key)));
        (recipe.first_id, recipe.outdated) = (Some(first), outdated);
        Fleet::new(&recipe, &mut rand::rng()).unwrap()
    }
}

fn main() {
    let args = Args::parse();
    let program = process::program(args.spark.as_deref());
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let (place, folder) = server::new_folder();
    let [key, other] = [(); 2].map(|()| rsa_backend::generate_device_key(&mut rand::rng()).unwrap());
    let maker = Maker { server_key: folder.server_spki().unwrap(), key };

    let count_on = |first: DeviceId, count: usize| maker.fleet(first, count, false);
    let ids = |fleet: Fleet| fleet.devices().map(|(id, _)| id).collect::<Vec<_>>();
    let (steady, victims) = (ids(count_on(first(200), STEADY)), ids(count_on(first(201), VICTIMS)));
    let updated = ids(count_on(first(202), UPDATED * UPDATED_GROUPS));
    let groups = (0..GROUPS).flat_map(|group| ids(count_on(first(group), GROUP)));
    let known: Vec<_> = groups.chain(steady.iter().chain(&victims).chain(&updated).copied()).collect();
    let (public_key, other_key) = (maker.key.public_key(), other.public_key());
    let enrolled = folder.store().change_now(move |transaction| {
        for id in known {
            transaction.update_device(id, |device| {
                device.enrol(&public_key, 0);
                device.claimed = true;
            })?;
        }
        (0..STRANGERS).try_for_each(|at| {
            let [high, low] = at.to_be_bytes();
            let id = DeviceId([203, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]);
            transaction.update_device(id, |device| device.offer(&other_key, 0))
        })
    });
    enrolled.unwrap();
    std::fs::create_dir_all(folder.modules()).unwrap();
    for file in spark_cli::synthetic::new_system().unwrap() {
        std::fs::write(folder.modules().join(&file.name), &file.image).unwrap();
    }
    let server_key = folder.server_key().unwrap().to_public_key();
    drop(folder);

    let data = place.path().join("cloud");
    // Plans may send a module to a device as often as its owner likes; the cloud by itself does not.
    let options: Vec<String> =
        ["--no-update".to_owned()].into_iter().chain(args.serve.iter().cloned()).collect();
    let server = Server::start(&program, &data, &options, 0);
    let victim = Victim::new(server.devices, server_key, &maker.key, victims, &other);
    let (mut failures, written) = road(time, &server, &maker, &victim, &steady, &updated);
    println!("last words of the server:\n{}", server.last_words().join("\n"));
    // What it has acknowledged is on the disk.
    server.kill();
    let server = Server::start(&program, &data, &options, 0);
    for (id, notes) in &written {
        let (_, body) = server.get(&format!("/v1/devices/{id}"));
        let device: serde_json::Value = serde_json::from_str(&body).unwrap();
        if device["notes"].as_str() != Some(notes.as_str()) {
            failures.push(format!("{id}: {notes} was acknowledged, {} is there", device["notes"]));
        }
    }
    println!("{} devices have the notes that were acknowledged, after a kill", written.len());
    if server.stop().is_none() {
        failures.push("the server did not stop as it should".to_owned());
    }
    if !failures.is_empty() {
        println!("FAILED: {}", failures.join("; "));
        std::process::exit(1);
    }
}

/// Everything between the server's start and its end: what went wrong, and the notes that were acknowledged.
fn road(
    time: Duration,
    server: &Server,
    maker: &Maker,
    victim: &Victim,
    steady: &[DeviceId],
    updated: &[DeviceId],
) -> (Vec<String>, HashMap<DeviceId, String>) {
    let (over, done) = (AtomicBool::new(false), Done::default());
    let (over, done) = (&over, &done);
    let mut failures = Vec::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = server.devices.to_string();
    let mut orders = Orders::new(&address);
    orders.events = vec![Periodic::new("road/steady", "{n}", Duration::from_secs(1))];
    let staying = {
        let _inside = runtime.enter();
        maker.fleet(first(200), STEADY, false).start(&orders)
    };
    assert!(runtime.block_on(staying.wait_online(STEADY as u64, Duration::from_secs(60))));
    std::thread::sleep(Duration::from_secs(2));
    let files = server.process.files();
    println!("{STEADY} devices are online: {:.1} MiB, {files} open files", mib(server.process.memory()));

    let (samples, written) = std::thread::scope(|scope| {
        for group in 0..GROUPS {
            let (handle, address) = (runtime.handle().clone(), &address);
            scope.spawn(move || handle.block_on(come_and_go(maker, group, address, over, done)));
        }
        let (handle, address) = (runtime.handle().clone(), &address);
        scope.spawn(move || take_updates(server, maker, updated, (&handle, address), over, done));
        scope.spawn(|| call(server, steady, over, done));
        scope.spawn(|| call(server, steady, over, done));
        scope.spawn(|| watch(server, over, done));
        let writing = scope.spawn(|| write(server, steady, over));
        scope.spawn(|| victim.silent(over));
        scope.spawn(|| victim.slow(over));
        scope.spawn(|| victim.garbage(over));
        scope.spawn(|| victim.unknown(over));
        scope.spawn(|| victim.wrong_key(over));
        scope.spawn(|| victim.malformed(over));
        let samples = sample(server, time);
        over.store(true, Ordering::Relaxed);
        (samples, writing.join().unwrap())
    });
    let metrics = server.metrics();
    println!("{done:?}");
    for (name, value) in metrics.iter().filter(|(name, _)| {
        ["connections_total", "handshakes_total", "refused_total", "ended_total", "updates_total"]
            .iter()
            .any(|wanted| name.starts_with(wanted))
    }) {
        println!("  {name} {value}");
    }

    // After warm-up, and at the end.
    let part = |from: usize, to: usize| {
        let mut part = samples[samples.len() * from / 100..samples.len() * to / 100].to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let course: Vec<String> = (0..10).map(|at| format!("{:.1}", mib(part(at * 10, at * 10 + 10)))).collect();
    // Tables and caches are full after a minute, however long the road is.
    let warm_up = if time < Duration::from_secs(300) { 50 } else { 20 };
    let (warm, end) = (part(warm_up, warm_up + 20), part(80, 100));
    println!(
        "memory in tenths of the time: {} MiB; {:+.1} % since warm-up",
        course.join(" "),
        (end as f64 / warm as f64 - 1.0) * 100.0
    );
    if end as f64 > warm as f64 * GROWTH {
        failures.push(format!("memory grew from {:.1} to {:.1} MiB", mib(warm), mib(end)));
    }

    // Connections of strangers end by and by.
    let waited = Instant::now();
    let settled = || {
        let metrics = server.metrics();
        let level = |name: &str| metrics[name] as usize;
        (level("devices_online"), level("connections_half_open"), server.process.files())
    };
    let is_settled = |(online, half_open, open): (usize, usize, usize)| {
        (online, half_open) == (STEADY, 0) && open <= files + OWN_FILES
    };
    while !is_settled(settled()) && waited.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(500));
    }
    let (online, half_open, open) = settled();
    println!(
        "at the end: {online} online, {half_open} half open, {open} open files, {:.1} MiB",
        mib(server.process.memory())
    );
    if !is_settled((online, half_open, open)) {
        failures.push(format!(
            "{online} online of {STEADY}, {half_open} half open, {open} open files of {files}"
        ));
    }
    let counts = staying.counts();
    if counts.lost != 0 || counts.connections != STEADY as u64 {
        failures
            .push(format!("devices that stay were cut off: {counts:?}, {:?}", staying.last_errors().last()));
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (what, count) in
        [("connections", &done.connections), ("calls", &done.calls), ("updates", &done.updates)]
    {
        if get(count) == 0 {
            failures.push(format!("there were no {what}"));
        }
    }
    if get(&done.failed) * 50 > get(&done.connections) {
        failures.push("more than 2 % of honest devices' connections failed".to_owned());
    }
    if get(&done.calls_failed) != 0 {
        failures.push("calls failed".to_owned());
    }
    runtime.block_on(staying.stop()).unwrap();
    (failures, written)
}

fn sample(server: &Server, time: Duration) -> Vec<u64> {
    let started = Instant::now();
    let mut samples = Vec::new();
    let mut told = started;
    while started.elapsed() < time {
        samples.push(server.process.memory());
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!(
                "{:.0} min: {:.1} MiB",
                started.elapsed().as_secs_f64() / 60.0,
                mib(server.process.memory())
            );
        }
        std::thread::sleep(SAMPLE);
    }
    samples
}

/// Devices connect, stay a moment, and leave: two times as firmware does, the third as on a power cut.
async fn come_and_go(maker: &Maker, group: u8, address: &str, over: &AtomicBool, done: &Done) {
    let mut fleet = maker.fleet(first(group), GROUP, false);
    let mut orders = Orders::new(address);
    orders.events = vec![Periodic::new("road/passing", "{n}", Duration::from_millis(400))];
    orders.reconnect_after = Duration::from_millis(200);
    for round in 1_u64.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let running = fleet.start(&orders);
        running.wait_online(GROUP as u64, Duration::from_secs(10)).await;
        let moment = Duration::from_millis(rand::rng().random_range(100..900));
        tokio::time::sleep(moment).await;
        let counts = running.counts();
        add(&done.connections, counts.connections);
        add(&done.failed, counts.handshakes_failed + counts.unreachable);
        fleet = if round.is_multiple_of(3) {
            drop(running);
            maker.fleet(first(group), GROUP, false)
        } else {
            running.stop().await.unwrap()
        };
    }
}

/// Devices with old firmware come, are updated and leave; the next ones come.
fn take_updates(
    server: &Server,
    maker: &Maker,
    ids: &[DeviceId],
    (handle, address): (&Handle, &str),
    over: &AtomicBool,
    done: &Done,
) {
    let is_over =
        |started: Instant| over.load(Ordering::Relaxed) || started.elapsed() > Duration::from_secs(60);
    for ids in ids.chunks(UPDATED).cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        let inside = handle.enter();
        let running = maker.fleet(ids[0], UPDATED, true).start(&Orders::new(address));
        drop(inside);
        for id in ids {
            // Once the device has told what it has, something is missing.
            while !is_over(started) {
                let (_, body) = server.get(&format!("/v1/updates/{id}/plan"));
                let plan: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                if plan["steps"].as_array().is_some_and(|steps| !steps.is_empty()) {
                    server.post(&format!("/v1/updates/{id}"), &[]);
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // Three modules each, and a reset after each.
        let all = 3 * UPDATED as u64;
        while running.counts().resets < all && !is_over(started) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // The cloud is to see the last one come back.
        std::thread::sleep(Duration::from_secs(2));
        add(&done.updates, running.counts().resets);
        handle.block_on(running.stop()).unwrap();
    }
}

/// Calls functions, pings, asks for descriptions.
fn call(server: &Server, ids: &[DeviceId], over: &AtomicBool, done: &Done) {
    let mut rng = rand::rng();
    while !over.load(Ordering::Relaxed) {
        let id = ids[rng.random_range(0..ids.len())];
        let (status, body) = match rng.random_range(0..4) {
            0 => server.put(&format!("/v1/devices/{id}/ping"), &[]),
            1 => server.get(&format!("/v1/describe/{id}?fresh=true")),
            2 => server.get("/v1/devices"),
            _ => server.post(&format!("/v1/devices/{id}/digitalread"), &[("arg", "D0")]),
        };
        if status == 200 {
            add(&done.calls, 1);
        } else {
            add(&done.calls_failed, 1);
            println!("call of {id}: {status} {body}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Opens streams of events and drops them.
fn watch(server: &Server, over: &AtomicBool, done: &Done) {
    while !over.load(Ordering::Relaxed) {
        let stream = server.stream("/v1/events/road");
        add(&done.streams, 1);
        for line in stream.lines().take(200) {
            line.unwrap();
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Writes notes about devices; the last that was acknowledged of each.
fn write(server: &Server, ids: &[DeviceId], over: &AtomicBool) -> HashMap<DeviceId, String> {
    let mut written = HashMap::new();
    for (at, id) in ids.iter().cycle().enumerate() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let notes = format!("written {at}");
        if let (200, _) = server.put(&format!("/v1/devices/{id}"), &[("notes", &notes)]) {
            written.insert(*id, notes);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    written
}
