//! `spark cloud serve` in a process of its own, and what it says of itself.
#![allow(dead_code, unreachable_pub, reason = "each example uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a tool for measurements"
)]

use super::process::Process;
use spark_cli::cloud::folder::Folder;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Log lines that are kept, to be shown when something is wrong.
const LOG: usize = 40;

/// A data folder with its cloud's key, before the server runs.
pub fn new_folder() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(&place.path().join("cloud"), &mut rand::rng()).unwrap().0;
    (place, folder)
}

pub struct Server {
    pub process: Process,
    token: String,
    agent: ureq::Agent,
    log: Arc<Mutex<VecDeque<String>>>,
    pub devices: SocketAddr,
    pub api: SocketAddr,
}

impl Server {
    /// Starts it on free ports of the loopback. As many HTTP connections are kept open as `idle` says.
    pub fn start(program: &Path, folder: &Path, options: &[String], idle: usize) -> Self {
        let token = std::fs::read_to_string(folder.join("token")).unwrap().trim().to_owned();
        let mut child = Command::new(program)
            .args([
                "cloud",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--api",
                "127.0.0.1:0",
                "--grace",
                "2",
                "--data",
            ])
            .arg(folder)
            .args(options)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut devices, mut api, mut line) = (None, None, String::new());
        while devices.is_none() || api.is_none() {
            line.clear();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                let _ = child.wait();
                panic!("the server did not start");
            }
            let after = |mark: &str| {
                line.split_once(mark)?.1.split([',', ' ']).next()?.trim().parse::<SocketAddr>().ok()
            };
            devices = devices.or_else(|| after("listening on "));
            api = api.or_else(|| after("http://"));
        }
        let log = Arc::new(Mutex::new(VecDeque::new()));
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || keep(lines, &log)
        });
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_idle_connections(idle)
            .max_idle_connections_per_host(idle)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        Self { process: Process(child), token, agent, log, devices: devices.unwrap(), api: api.unwrap() }
    }

    /// GET: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let request = self.agent.get(format!("http://{}{path}", self.api));
        answer(request.header("Authorization", format!("Bearer {}", self.token)).call())
    }

    /// POST of a form.
    pub fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, String) {
        let request = self.agent.post(format!("http://{}{path}", self.api));
        answer(
            request.header("Authorization", format!("Bearer {}", self.token)).send_form(form.iter().copied()),
        )
    }

    /// PUT of a form.
    pub fn put(&self, path: &str, form: &[(&str, &str)]) -> (u16, String) {
        let request = self.agent.put(format!("http://{}{path}", self.api));
        answer(
            request.header("Authorization", format!("Bearer {}", self.token)).send_form(form.iter().copied()),
        )
    }

    /// Opens a stream of events; the head of the answer is read.
    pub fn stream(&self, path: &str) -> BufReader<TcpStream> {
        let mut socket = TcpStream::connect(self.api).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: cloud\r\nAuthorization: Bearer {}\r\n\r\n", self.token)
            .unwrap();
        let mut lines = BufReader::new(socket);
        let mut line = String::new();
        while line != ":ok\n" && line != ": ok\n" {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "no stream");
        }
        lines
    }

    /// All counters and levels, by name with labels, without `spark_cloud_`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let values = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("spark_cloud_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        values.collect()
    }

    /// Its last warnings.
    pub fn last_words(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().cloned().collect()
    }

    /// Ends it as a power cut does.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Interrupts it and waits: how long it took, `None` if it had to be killed or failed.
    pub fn stop(self) -> Option<Duration> {
        self.process.stop()
    }
}

fn answer(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    match answer {
        Ok(mut answer) => (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default()),
        Err(error) => (0, error.to_string()),
    }
}

fn keep(lines: BufReader<ChildStderr>, log: &Mutex<VecDeque<String>>) {
    for line in lines.lines().map_while(Result::ok).filter(|line| !line.contains(" INFO ")) {
        let mut log = log.lock().unwrap();
        if log.len() >= LOG {
            log.pop_front();
        }
        log.push_back(line);
    }
}

/// The sum of all counters whose name begins so.
pub fn sum(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    metrics.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| value).sum()
}
