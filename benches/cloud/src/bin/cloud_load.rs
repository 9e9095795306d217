//! Thousands of simulated devices on one `spark cloud serve`: they connect all at once, then publish, while one watches the
//! events and others call functions.
//!
//! ```text
//! cargo build --release --bin spark [--features spark-cli/openssl]
//! cargo run --release -p spark-cloud-benches --bin cloud_load -- [--devices 10000] [--seconds 30] [--rate 1]
//! ```
//!
//! Devices and watchers are in this process, the server has one of its own. Ends with 1 if an event was lost or a device
//! refused. Needs as many file descriptors as devices on each side, and Linux for its view of the server.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a tool for measurements"
)]

#[path = "../process.rs"]
mod process;
#[path = "../server.rs"]
mod server;

use clap::Parser;
use process::{mib, percentile};
use server::{Server, sum};
use spark_cli::device::fleet::{Fleet, Keys, Orders, Recipe, Running};
use spark_cli::device::program::Periodic;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One device in so many publishes what is watched.
const WATCHED: usize = 10;
/// Who calls functions, one after the other.
const CALLERS: usize = 4;

#[derive(Parser, Debug)]
struct Args {
    /// Devices.
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    /// How long they publish.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Events of a device in a second; firmware lets 4 through.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Connections begun in a second; all at once without it.
    #[arg(long)]
    connect_rate: Option<f64>,
    /// The program; otherwise the one in the same target folder.
    #[arg(long)]
    spark: Option<PathBuf>,
    /// Options for `spark cloud serve`, such as `--back-end rsa`.
    #[arg(last = true)]
    serve: Vec<String>,
}

fn main() {
    let args = Args::parse();
    let program = process::program_for_many(args.spark.as_deref());
    let (place, folder) = server::new_folder();
    let key = spark_keys::rsa_backend::generate_device_key(&mut rand::rng()).unwrap();
    let mut recipe = Recipe::new(args.devices, folder.server_spki().unwrap(), Keys::Shared(Box::new(key)));
    recipe.count = args.devices.div_ceil(WATCHED);
    let watched = Fleet::new(&recipe, &mut rand::rng()).unwrap();
    recipe.count = args.devices - recipe.count;
    let others = Fleet::new(&recipe, &mut rand::rng()).unwrap();
    let devices: Vec<_> = watched.devices().chain(others.devices()).map(|(id, key)| (id, *key)).collect();
    let ids: Vec<String> = devices.iter().map(|(id, _)| id.to_string()).collect();
    let enrolled = folder.store().change_now(move |transaction| {
        devices.iter().try_for_each(|(id, key)| {
            transaction.update_device(*id, |device| {
                device.enrol(key, 0);
                device.claimed = true;
            })
        })
    });
    enrolled.unwrap();
    drop(folder);

    let mut options =
        ["--accept-rate", "100000", "--accept-rate-per-address", "100000"].map(str::to_owned).to_vec();
    options.extend(["--max-connections".to_owned(), (args.devices + 100).to_string()]);
    options.extend(args.serve.iter().cloned());
    let server = Server::start(&program, &place.path().join("cloud"), &options, CALLERS + 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut failures = runtime.block_on(load(&args, &server, watched, others, &ids));
    let words = server.last_words();
    match server.stop() {
        Some(time) => println!("stopped in {:.2} s", time.as_secs_f64()),
        None => failures.push("the server did not stop as it should".to_owned()),
    }
    if !failures.is_empty() {
        println!("FAILED: {}", failures.join("; "));
        println!("last words of the server:\n{}", words.join("\n"));
        std::process::exit(1);
    }
}

/// Everything between the server's start and its end; what went wrong.
async fn load(args: &Args, server: &Server, watched: Fleet, others: Fleet, ids: &[String]) -> Vec<String> {
    let mut failures = Vec::new();
    let (empty, idle_time) = (server.process.memory(), server.process.processor_time());
    let started = Instant::now();
    let mut orders = Orders::new(&server.devices.to_string());
    orders.hold_events = true;
    let start = |fleet: Fleet, name: &str, part: f64| {
        let mut orders = orders.clone();
        orders.connect_rate = args.connect_rate.map(|rate| rate * part);
        orders.events = vec![Periodic::new(name, "{t}", Duration::from_secs_f64(1.0 / args.rate))];
        fleet.start(&orders)
    };
    let part = 1.0 / WATCHED as f64;
    let fleets = [start(watched, "watched", part), start(others, "load", 1.0 - part)];
    let online = || fleets.iter().map(|fleet| fleet.counts().online).sum::<u64>();
    let patience = Duration::from_secs(60 + args.devices as u64 / 20);
    while online() < args.devices as u64 && started.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let storm = started.elapsed();
    let connected = server.process.processor_time() - idle_time;
    if online() < args.devices as u64 {
        failures.push(format!("{} of {} devices are online", online(), args.devices));
    }
    let mut times: Vec<Duration> = fleets.iter().flat_map(|fleet| fleet.watch().connect_times()).collect();
    times.sort_unstable();
    println!(
        "{} devices online in {:.1} s: {:.0} handshakes/s, {:.2} s of the server's processor time, {:.2} ms each",
        online(),
        storm.as_secs_f64(),
        online() as f64 / storm.as_secs_f64(),
        connected.as_secs_f64(),
        connected.as_secs_f64() * 1e3 / online().max(1) as f64
    );
    told("connect", &times);
    // Descriptions are asked for and written down, then it is quiet.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let memory = server.process.memory();
    let each = |bytes: u64| bytes.saturating_sub(empty) as f64 / 1024.0 / args.devices as f64;
    println!(
        "memory: {:.1} MiB without devices, {:.1} MiB with them: {:.1} KiB a device",
        mib(empty),
        mib(memory),
        each(memory)
    );

    failures.extend(publish(args, server, &fleets, ids).await);
    println!(
        "memory after the events: {:.1} MiB, {:.1} KiB a device",
        mib(server.process.memory()),
        each(server.process.memory())
    );

    let metrics = server.metrics();
    let unwanted = ["refused_total", "ended_total", "events_dropped_total", "events_missed"];
    for name in unwanted.into_iter().filter(|name| sum(&metrics, name) != 0.0) {
        let found = metrics.iter().filter(|(key, _)| key.starts_with(name));
        failures.push(found.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", "));
    }
    if metrics["devices_online"] != args.devices as f64 {
        failures.push(format!("{} devices are online", metrics["devices_online"]));
    }
    for fleet in fleets {
        for (id, error) in fleet.last_errors().iter().take(3) {
            failures.push(format!("{id}: {error}"));
        }
        if let Err(failure) = fleet.stop().await {
            failures.push(failure.to_string());
        }
    }
    failures
}

/// The devices publish, one watches, others call.
async fn publish(args: &Args, server: &Server, fleets: &[Running; 2], ids: &[String]) -> Vec<String> {
    let mut failures = Vec::new();
    let stream = server.stream("/v1/events/watched");
    let before = server.process.processor_time();
    let over = AtomicBool::new(false);
    let counts = |fleet: &Running| fleet.counts().published;
    let ((received, not_shown), calls, errors, took) = std::thread::scope(|scope| {
        let socket = stream.get_ref().try_clone().unwrap();
        let watching = scope.spawn(move || watch(stream));
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (over, wanted) = (&over, ids.iter().skip(caller * ids.len() / CALLERS));
                scope.spawn(move || call(server, wanted.cycle(), over))
            })
            .collect();
        fleets.iter().for_each(|fleet| fleet.publish(true));
        std::thread::sleep(Duration::from_secs(args.seconds));
        fleets.iter().for_each(|fleet| fleet.publish(false));
        over.store(true, Ordering::Relaxed);
        let called: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        let took = server.process.processor_time() - before;
        // The last ones are still on their way.
        let started = Instant::now();
        let sent = || fleets.iter().map(counts).sum::<u64>() as f64;
        while sum(&server.metrics(), "events_total") < sent() && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        socket.shutdown(std::net::Shutdown::Both).unwrap();
        let (calls, errors): (Vec<_>, Vec<_>) = called.into_iter().unzip();
        (watching.join().unwrap(), calls.concat(), errors.concat(), took)
    });
    let published = fleets.iter().map(counts).sum::<u64>();
    let (mut latencies, mut calls) = (received, calls);
    latencies.sort_unstable();
    calls.sort_unstable();
    let arrived = sum(&server.metrics(), "events_total");
    println!(
        "{published} events in {} s, {:.0}/s: {arrived} arrived; {:.2} s of the server's processor time, with the calls",
        args.seconds,
        published as f64 / args.seconds as f64,
        took.as_secs_f64()
    );
    told("event, device to watcher", &latencies);
    told("function call over HTTP", &calls);
    if arrived != published as f64 {
        failures.push(format!("{} events were lost", published as f64 - arrived));
    }
    if published == 0 || calls.is_empty() {
        failures.push("nothing was published or called".to_owned());
    }
    let wanted = counts(&fleets[0]);
    if latencies.len() as u64 != wanted || not_shown != 0 {
        failures
            .push(format!("{} of {wanted} watched events were shown, {not_shown} skipped", latencies.len()));
    }
    let refused: u64 = fleets.iter().map(|fleet| fleet.counts().not_published).sum();
    if refused != 0 {
        failures.push(format!("the firmware held {refused} events back"));
    }
    failures.extend(errors.into_iter().take(3));
    failures
}

fn told(what: &str, sorted: &[Duration]) {
    let at = |part| percentile(sorted, part).as_secs_f64() * 1e3;
    println!(
        "{what}: {} times, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        sorted.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// How long each event was on its way, and how many the server says it did not show.
fn watch(stream: BufReader<TcpStream>) -> (Vec<Duration>, u64) {
    let (mut latencies, mut not_shown) = (Vec::new(), 0);
    for line in stream.lines().map_while(Result::ok) {
        if let Some(data) = line.strip_prefix("data:") {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let event: serde_json::Value = serde_json::from_str(data).unwrap();
            let sent: u64 = event["data"].as_str().unwrap().parse().unwrap();
            latencies.push(now.saturating_sub(Duration::from_micros(sent)));
        } else if let Some((count, _)) = line.split_once(" events were not shown") {
            not_shown += count.trim_start_matches([':', ' ']).parse::<u64>().unwrap();
        }
    }
    (latencies, not_shown)
}

/// Calls one device after the other: times, and what went wrong.
fn call<'i>(
    server: &Server,
    mut ids: impl Iterator<Item = &'i String>,
    over: &AtomicBool,
) -> (Vec<Duration>, Vec<String>) {
    let (mut times, mut errors) = (Vec::new(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let id = ids.next().unwrap();
        let started = Instant::now();
        match server.post(&format!("/v1/devices/{id}/digitalread"), &[("arg", "D0")]) {
            (200, _) => times.push(started.elapsed()),
            (status, body) => errors.push(format!("call of {id}: {status} {body}")),
        }
        // A few hundred a second are enough to measure; the processors are for the events.
        std::thread::sleep(Duration::from_millis(20));
    }
    (times, errors)
}
