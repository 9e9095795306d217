//! The real programs as children, their JSON lines, and a client of the cloud's HTTP interface.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code, each file uses its part of it"
)]

use core::fmt::Write as _;
use core::time::Duration;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs `spark` to its end.
pub fn spark(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_spark")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// All lines that a program has printed, for whoever waits for one.
#[derive(Default)]
struct Lines {
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

/// A running `spark`; it ends with this value.
pub struct Program {
    child: Child,
    lines: Arc<Lines>,
    errors: Arc<Mutex<String>>,
}

impl Program {
    /// Starts `spark` with arguments that make it print JSON.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, errors) = (Arc::<Lines>::default(), Arc::<Mutex<String>>::default());
        let output = BufReader::new(child.stdout.take().unwrap());
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            // A line that a kill cut short is no line.
            for line in output.lines().map_while(Result::ok).flat_map(|line| serde_json::from_str(&line)) {
                kept.lines.lock().unwrap().0.push(line);
                kept.more.notify_all();
            }
            kept.lines.lock().unwrap().1 = true;
            kept.more.notify_all();
        });
        let mut complaints = child.stderr.take().unwrap();
        let kept = Arc::clone(&errors);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = complaints.read(&mut buffer) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { child, lines, errors }
    }

    /// How many lines there are; what comes later is news.
    pub fn mark(&self) -> usize {
        self.lines.lines.lock().unwrap().0.len()
    }

    /// What `pick` finds first in all lines, those to come included.
    pub fn wait<T>(&self, what: &str, pick: impl FnMut(&Value) -> Option<T>) -> T {
        self.wait_since(0, what, pick)
    }

    /// The same among the lines after the first so many.
    pub fn wait_since<T>(&self, mark: usize, what: &str, mut pick: impl FnMut(&Value) -> Option<T>) -> T {
        let (started, mut at) = (Instant::now(), mark);
        let mut lines = self.lines.lines.lock().unwrap();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let has_ended = lines.1;
            let news = lines.0[at..].to_vec();
            // What fails from here on fails without the lock.
            drop(lines);
            at += news.len();
            if let Some(found) = news.iter().find_map(&mut pick) {
                return found;
            }
            assert!(!has_ended, "the program ended before: {what}");
            assert!(!left.is_zero(), "waiting for: {what}");
            lines = self.lines.lines.lock().unwrap();
            if lines.0.len() == at && !lines.1 {
                lines = self.lines.more.wait_timeout(lines, left).unwrap().0;
            }
        }
    }

    /// Lines so far that `wanted` chooses.
    pub fn count(&self, mut wanted: impl FnMut(&Value) -> bool) -> usize {
        self.lines.lines.lock().unwrap().0.iter().filter(|line| wanted(line)).count()
    }

    fn complaints(&self) -> String {
        let errors = self.errors.lock().unwrap();
        let cut = errors.len().saturating_sub(4000);
        let cut = (cut..=errors.len()).find(|at| errors.is_char_boundary(*at)).unwrap_or(0);
        errors[cut..].to_owned()
    }

    /// Asks it to end, and waits until it has; it has to end well.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.complaints());
    }

    /// Pulls the plug: SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("-- standard error of a program:\n{}", self.complaints());
        }
    }
}

/// A port that stays ours while nobody listens on it: below those that connections get.
pub fn fixed_port() -> u16 {
    loop {
        let port = 15_000 + rand::random::<u16>() % 15_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running cloud.
pub struct Cloud {
    pub program: Program,
    pub http: Http,
    pub data: PathBuf,
    pub listen: SocketAddr,
}

impl Cloud {
    /// Starts `spark cloud serve` on ports that the system chooses.
    pub fn start(data: &Path, options: &[&str]) -> Self {
        Self::start_on(data, "127.0.0.1:0", "127.0.0.1:0", options)
    }

    /// The same on these.
    pub fn start_on(data: &Path, listen: &str, api: &str, options: &[&str]) -> Self {
        let folder = data.to_str().unwrap();
        let mut arguments =
            vec!["cloud", "serve", "--data", folder, "--listen", listen, "--api", api, "--json"];
        arguments.extend(options);
        let program = Program::start(&arguments);
        let started = program.wait("the cloud starts", |line| Some(line.clone()));
        assert_eq!(started["event"], "started", "it is the first line");
        let address = |name: &str| started[name].as_str().unwrap().parse::<SocketAddr>().unwrap();
        let token = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
        let http = Http::new(address("api"), token);
        Self { program, http, data: data.to_path_buf(), listen: address("listen") }
    }

    pub fn server_key(&self) -> String {
        self.data.join("server-key.pub.pem").to_str().unwrap().to_owned()
    }

    /// Starts `spark device` against this cloud.
    pub fn device(&self, data: &Path, options: &[&str]) -> Program {
        self.device_to(self.listen, data, options)
    }

    /// Starts `spark device` with the key of this cloud against whatever is at this address.
    pub fn device_to(&self, address: SocketAddr, data: &Path, options: &[&str]) -> Program {
        let (address, server_key) = (address.to_string(), self.server_key());
        let mut arguments = vec!["device", "--connect", &address, "--server-key", &server_key];
        arguments.extend(["--data", data.to_str().unwrap(), "--reconnect-after", "0.2", "--json"]);
        arguments.extend(options);
        Program::start(&arguments)
    }
}

/// A slow way to a server, so that there is a middle of a transfer.
pub struct SlowWay {
    pub address: SocketAddr,
    held: Arc<AtomicBool>,
}

impl SlowWay {
    /// Whatever comes waits so long before it goes on.
    pub fn to(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let held = Arc::<AtomicBool>::default();
        let way = Arc::clone(&held);
        std::thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                // While there is no server, its device finds the way closed.
                let Ok(server) = TcpStream::connect(server) else { continue };
                let ends = (device.try_clone().unwrap(), server.try_clone().unwrap());
                for (from, to) in [(device, server), (ends.1, ends.0)] {
                    let held = Arc::clone(&way);
                    std::thread::spawn(move || carry(from, to, delay, &held));
                }
            }
        });
        Self { address, held }
    }

    /// From now on nothing arrives, or all of it again.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration, held: &AtomicBool) {
    let mut buffer = [0; 2048];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        std::thread::sleep(delay);
        while held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // What the other direction still carries arrives: it may be a device's last word.
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}

/// The id of the device in this folder of `spark device`.
pub fn device_id(data: &Path) -> String {
    let state: Value = serde_json::from_slice(&std::fs::read(data.join("device.json")).unwrap()).unwrap();
    state["device_id"].as_str().unwrap().to_owned()
}

/// What the cloud answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    pub body: Value,
}

impl Answer {
    /// Its body, if all went well.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    /// A refusal with this status and word, which says what to do.
    #[track_caller]
    pub fn refused(self, status: u16, word: &str) -> Value {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(word)), "{}", self.text);
        assert_eq!((&self.body["ok"], &self.body["code"]), (&json!(false), &json!(status)));
        assert!(!self.body["error_description"].as_str().unwrap().is_empty());
        self.body
    }
}

/// A client of the HTTP interface.
pub struct Http {
    base: String,
    token: String,
    agent: ureq::Agent,
    /// Methods and paths that were used.
    used: Mutex<BTreeSet<(String, String)>>,
}

impl Http {
    fn new(address: SocketAddr, token: String) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { base: format!("http://{address}"), token, agent, used: Mutex::default() }
    }

    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let bare = path.split('?').next().unwrap_or(path);
        self.used.lock().unwrap().insert((method.to_ascii_lowercase(), bare.to_owned()));
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        match body {
            Some((kind, bytes)) => self.agent.run(request.header("Content-Type", kind).body(bytes).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        }
    }

    /// A request; an error if there is no whole answer.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer, String> {
        self.request_with(method, path, Some(&self.token), body)
    }

    /// The same with another token, or none.
    pub fn request_with(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer, String> {
        let mut response = self.send(method, path, token, body).map_err(|error| error.to_string())?;
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { status: response.status().as_u16(), text, body })
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_request("GET", path, None).unwrap()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.try_request("DELETE", path, None).unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_request("POST", path, Some(json_body(body))).unwrap()
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.try_request("PUT", path, Some(json_body(body))).unwrap()
    }

    /// A form as browsers and the vendor's tools send it.
    pub fn post_form(&self, path: &str, form: &str) -> Answer {
        let body = ("application/x-www-form-urlencoded", form.as_bytes().to_vec());
        self.try_request("POST", path, Some(body)).unwrap()
    }

    /// Sends a file as a multipart form, with `fields` before it.
    pub fn upload(&self, method: &str, path: &str, file: (&str, &[u8]), fields: &[(&str, &str)]) -> Answer {
        self.try_upload(method, path, file, fields).unwrap()
    }

    /// The same; an error if there is no whole answer.
    pub fn try_upload(
        &self,
        method: &str,
        path: &str,
        (name, content): (&str, &[u8]),
        fields: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let boundary = "5dfc2d0b6a8f4f3b";
        let mut head = String::new();
        for (name, value) in fields {
            let disposition = format!("Content-Disposition: form-data; name=\"{name}\"");
            write!(head, "--{boundary}\r\n{disposition}\r\n\r\n{value}\r\n").unwrap();
        }
        let disposition = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"");
        write!(head, "--{boundary}\r\n{disposition}\r\n\r\n").unwrap();
        let tail = format!("\r\n--{boundary}--\r\n");
        let body = [head.as_bytes(), content, tail.as_bytes()].concat();
        self.try_request(method, path, Some((&format!("multipart/form-data; boundary={boundary}"), body)))
    }

    /// Opens a stream of server-sent events.
    pub fn stream(&self, path: &str) -> Stream {
        let response = self.send("GET", path, Some(&self.token), None).unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        let (sender, events) = channel();
        let mut reader = BufReader::new(response.into_body().into_reader());
        std::thread::spawn(move || {
            let (mut name, mut line) = (String::new(), String::new());
            while matches!(reader.read_line(&mut line), Ok(1..)) {
                let said = line.trim_end();
                let sent = if let Some(comment) = said.strip_prefix(':') {
                    sender.send((":".to_owned(), json!(comment.trim())))
                } else if let Some(data) = said.strip_prefix("data:") {
                    sender.send((core::mem::take(&mut name), serde_json::from_str(data).unwrap()))
                } else {
                    said.strip_prefix("event:").map(str::trim).unwrap_or_default().clone_into(&mut name);
                    Ok(())
                };
                // Nobody reads any more.
                if sent.is_err() {
                    return;
                }
                line.clear();
            }
        });
        let stream = Stream { events };
        let opened = stream.events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(opened, (":".to_owned(), json!("ok")), "it is open before anything happens");
        stream
    }

    /// Whether `/openapi.json` describes everything that was asked for.
    pub fn assert_described(&self) {
        let document = self.request_with("GET", "/openapi.json", None, None).unwrap().ok();
        assert!(document["openapi"].as_str().unwrap().starts_with("3."));
        let described = document["paths"].as_object().unwrap();
        let open = ["/health", "/openapi.json", "/nothing/here"];
        for (method, path) in self.used.lock().unwrap().iter() {
            let is_it = |template: &str| open.contains(&path.as_str()) || fits(template, path);
            let found = described.iter().any(|(template, methods)| {
                is_it(template) && (open.contains(&path.as_str()) || methods.get(method).is_some())
            });
            assert!(found, "{method} {path} is not in /openapi.json");
        }
    }
}

fn json_body(body: &Value) -> (&'static str, Vec<u8>) {
    ("application/json", serde_json::to_vec(body).unwrap())
}

/// Whether a path is one of this template: `{name}` stands for a part, `{*name}` for all that follow.
fn fits(template: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    for wanted in template.split('/') {
        if wanted.starts_with("{*") {
            return parts.next().is_some();
        }
        match parts.next() {
            Some(part) if wanted.starts_with('{') || wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// An open stream of server-sent events.
pub struct Stream {
    events: Receiver<(String, Value)>,
}

impl Stream {
    /// What `pick` finds in the events from here on; it gets their names and data.
    pub fn wait<T>(&self, what: &str, mut pick: impl FnMut(&str, &Value) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            match self.events.recv_timeout(left) {
                Ok((name, data)) => {
                    if let Some(found) = pick(&name, &data) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("waiting for: {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the stream ended before: {what}"),
            }
        }
    }

    /// The server ends it.
    pub fn wait_for_end(&self) {
        while self.events.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Disconnected) {}
    }
}
