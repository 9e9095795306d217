//! `spark cloud debug`: what the vendor's firmware of that name tells by its LED, seen from this host.

mod report;
mod trial;

use crate::exit::{Code, Failure};
use crate::key_files::{ServerKey, load_device};
use coap_spark::diagnosis::{End, ROWS, Row, by_failure};
use coap_spark::handshake::{self, Cause, DeviceId, NONCE_LEN, Stage};
use core::time::Duration;
use report::{Report, Step};
use serde_json::{Map, Value};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const DEFAULT_PORT: u16 = 5683;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;
/// Different bytes that 40 random ones have at the very least: fewer come once in 10^18 times.
const MIN_DIFFERENT: usize = 20;

/// Tries what a device does to reach its cloud, and says where it would stop.
///
/// Each address of HOST is connected to, as far as the nonce with which a Spark server begins. With --id, --device-key and
/// --server-key the handshake of that device follows, up to the server's Hello, over a second connection; a device of this id that
/// is connected may be thrown out by the server for a moment. Failures are explained as devices show them: numbers, LED, what
/// the server sees, and what to do first.
///
/// Devices use IPv4: an IPv6 address that does not answer is no failure if there are IPv4 ones.
///
/// Exit code 0: all is fine. 69: nothing answers there. 76: it does not behave as a Spark server does, or refuses the device.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Host and port, by default 5683; `$id` in it stands for the device's id.
    #[arg(value_name = "HOST[:PORT]")]
    pub host: String,
    /// The device's id, 24 hex digits.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The device's private key, PEM or DER.
    #[arg(long, value_name = "FILE", requires = "server_key", requires = "id")]
    pub device_key: Option<PathBuf>,
    /// The server's public key, PEM or DER, as the device holds it.
    #[arg(long, value_name = "FILE", requires = "device_key", requires = "id")]
    pub server_key: Option<PathBuf>,
    /// How long each step may take; devices wait for 20 seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub timeout: u16,
    /// Print one JSON object when all is done.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for arguments and key files; what is wrong with the cloud is told, with its exit code.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let id = args.id.as_deref().map(str::parse::<DeviceId>).transpose().map_err(|error| {
        Failure::new(
            Code::Usage,
            format_args!("--id: {error}"),
            "`spark keys check` shows the id of a device",
        )
    })?;
    let (host, port) = target(&args.host, id)?;
    let device = match (id, &args.device_key, &args.server_key) {
        (Some(id), Some(device_key), Some(server_key)) => {
            let (device_key, private_key) = load_device(device_key)?;
            let server_key = ServerKey::load(server_key)?.public();
            Some(trial::Device { id, public_key: device_key.public_key(), private_key, server_key })
        }
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    let mut report = Report::new(host.clone(), port, args.json);
    let patience = Duration::from_secs(args.timeout.into());
    let verdict = runtime.block_on(examine(&host, port, device.as_ref(), patience, &mut report))?;
    // A name that is still being looked up is nothing to wait for.
    runtime.shutdown_background();
    report.finish(verdict)?;
    Ok(verdict.map_or_else(|code| ExitCode::from(code as u8), |()| ExitCode::SUCCESS))
}

/// Host and port. IPv6 addresses may be in brackets; without them they have no port.
fn target(text: &str, id: Option<DeviceId>) -> Result<(String, u16), Failure> {
    let bad = |what: &str| {
        let next = "give a name or address, and perhaps a port: cloud.example:5683, [2001:db8::1]:5683";
        Failure::new(Code::Usage, format_args!("{}: {what}", text.escape_debug()), next)
    };
    let host = match id {
        Some(id) => text.replace("$id", &id.to_string()),
        None if text.contains("$id") => {
            return Err(Failure::new(
                Code::Usage,
                "the host has $id in it, which stands for a device's id",
                "give the id with --id",
            ));
        }
        None => text.to_owned(),
    };
    let port =
        |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| bad("not a port"));
    let (host, port) = if host.parse::<Ipv6Addr>().is_ok() {
        (host, DEFAULT_PORT)
    } else if let Some((inner, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = match rest.strip_prefix(':') {
            Some(text) => port(text)?,
            None if rest.is_empty() => DEFAULT_PORT,
            None => return Err(bad("something behind the bracket")),
        };
        (inner.to_owned(), port)
    } else {
        match host.rsplit_once(':') {
            Some((name, text)) => (name.to_owned(), port(text)?),
            None => (host, DEFAULT_PORT),
        }
    };
    if host.is_empty() { Err(bad("no host")) } else { Ok((host, port)) }
}

type Verdict = Result<(), Code>;

async fn examine(
    host: &str,
    port: u16,
    device: Option<&trial::Device>,
    patience: Duration,
    report: &mut Report,
) -> Result<Verdict, Failure> {
    let Some(addresses) = resolve(host, port, patience, report).await? else {
        return Ok(Err(Code::Unavailable));
    };
    let has_v4 = addresses.iter().any(SocketAddr::is_ipv4);
    let mut verdict: Verdict = Ok(());
    let mut first_good = None;
    for address in addresses {
        let result = probe(address, patience, report).await?;
        match result {
            Ok(nonce) => first_good = first_good.or(Some((address, nonce))),
            // Something that answers is worth more than something that does not.
            Err(code) if address.is_ipv4() || !has_v4 => {
                verdict = match verdict {
                    Err(Code::Protocol) => verdict,
                    _ => Err(code),
                };
            }
            Err(_) => {}
        }
    }
    let (Some(device), Some((address, nonce))) = (device, first_good) else { return Ok(verdict) };
    let tried = try_handshake(address, nonce, device, patience, report).await?;
    Ok(verdict.and(tried))
}

/// The host's addresses, those that devices can use first.
async fn resolve(
    host: &str,
    port: u16,
    patience: Duration,
    report: &mut Report,
) -> Result<Option<Vec<SocketAddr>>, Failure> {
    let begun = Instant::now();
    let found = timeout(patience, tokio::net::lookup_host((host, port))).await;
    let took = begun.elapsed();
    let failed = |detail: String| Outcome { ok: false, detail, warning: None, row: row("no-internet") };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let outcome = match found {
        Err(_) => failed(format!("{} is not resolved in time", host.escape_debug())),
        Ok(Err(error)) => failed(format!("{} is not resolved: {error}", host.escape_debug())),
        Ok(Ok(found)) => {
            for address in found.take(MAX_ADDRESSES) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            addresses.sort_by_key(SocketAddr::is_ipv6);
            let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            if addresses.is_empty() {
                failed(format!("{} has no address", host.escape_debug()))
            } else if addresses.iter().any(|address| address.ip().is_unspecified()) {
                failed(format!(
                    "{} resolves to {}, which is no address",
                    host.escape_debug(),
                    list.join(", ")
                ))
            } else {
                let warning = (!addresses.iter().any(SocketAddr::is_ipv4))
                    .then(|| "there is no IPv4 address, and devices use no other".to_owned());
                let literal = host.parse::<IpAddr>().is_ok();
                let detail = if literal { format!("{host} is an address") } else { list.join(", ") };
                Outcome { ok: true, detail, warning, row: None }
            }
        }
    };
    let ok = outcome.ok;
    let mut more = Map::new();
    let list: Vec<Value> = addresses.iter().map(|address| address.ip().to_string().into()).collect();
    more.insert("addresses".to_owned(), list.into());
    outcome.tell("resolve", None, took, more, report)?;
    Ok(ok.then_some(addresses))
}

/// Connects and waits for the nonce.
async fn probe(
    address: SocketAddr,
    patience: Duration,
    report: &mut Report,
) -> Result<Result<[u8; NONCE_LEN], Code>, Failure> {
    let Some(mut socket) = connect(address, patience, report).await? else {
        return Ok(Err(Code::Unavailable));
    };
    let begun = Instant::now();
    let received = receive(&mut socket, patience).await;
    let took = begun.elapsed();
    drop(socket);
    let outcome = match received.end {
        _ if received.bytes.len() > NONCE_LEN => Err(format!(
            "{} bytes come where a Spark server sends {NONCE_LEN} and waits: {}",
            received.bytes.len(),
            excerpt(&received.bytes)
        )),
        ReceiveEnd::Enough => Ok(()),
        ReceiveEnd::TimedOut if received.bytes.is_empty() => {
            Err(format!("the server says nothing{}", speaks_http(address, patience).await))
        }
        ReceiveEnd::TimedOut => {
            Err(format!("{} of {NONCE_LEN} bytes come, and no more", received.bytes.len()))
        }
        ReceiveEnd::Closed => {
            Err(format!("the server closes after {} of {NONCE_LEN} bytes", received.bytes.len()))
        }
        ReceiveEnd::Failed(error) => {
            Err(format!("the connection fails after {} of {NONCE_LEN} bytes: {error}", received.bytes.len()))
        }
    };
    let nonce = <[u8; NONCE_LEN]>::try_from(received.bytes.as_slice());
    let outcome = match (outcome, nonce) {
        (Ok(()), Ok(nonce))
            if nonce.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) =>
        {
            Err(format!("text comes instead of random bytes: {}", excerpt(&nonce)))
        }
        (Ok(()), Ok(nonce)) => Ok(nonce),
        (Err(detail), _) => Err(detail),
        (Ok(()), Err(_)) => Err("no nonce".to_owned()),
    };
    let told = match &outcome {
        Ok(nonce) => {
            Outcome { ok: true, detail: "40 bytes of nonce".to_owned(), warning: weakness(nonce), row: None }
        }
        Err(detail) => {
            let failure = handshake::Failure { stage: Stage::ReceiveNonce, cause: Cause::Closed };
            let row = Some(by_failure(&failure, End::Device));
            Outcome { ok: false, detail: detail.clone(), warning: None, row }
        }
    };
    told.tell("nonce", Some(address), took, Map::new(), report)?;
    Ok(outcome.map_err(|_| Code::Protocol))
}

async fn connect(
    address: SocketAddr,
    patience: Duration,
    report: &mut Report,
) -> Result<Option<TcpStream>, Failure> {
    let begun = Instant::now();
    let connected = timeout(patience, TcpStream::connect(address)).await;
    let took = begun.elapsed();
    let failed = |detail| Outcome { ok: false, detail, warning: None, row: row("cloud-unreachable") };
    let (socket, outcome) = match connected {
        Ok(Ok(socket)) => {
            let outcome = Outcome { ok: true, detail: "connected".to_owned(), warning: None, row: None };
            (Some(socket), outcome)
        }
        Ok(Err(error)) => (None, failed(error.to_string())),
        Err(_) => {
            (None, failed("no answer in time: a firewall drops it, or nobody has the address".to_owned()))
        }
    };
    outcome.tell("connect", Some(address), took, Map::new(), report)?;
    Ok(socket)
}

struct Received {
    bytes: Vec<u8>,
    end: ReceiveEnd,
}

enum ReceiveEnd {
    Enough,
    Closed,
    TimedOut,
    Failed(std::io::Error),
}

/// Reads the nonce, and what comes with it.
async fn receive(socket: &mut TcpStream, patience: Duration) -> Received {
    let mut bytes = Vec::new();
    let reading = async {
        let mut buffer = [0; 256];
        loop {
            match socket.read(&mut buffer).await {
                Ok(0) => return ReceiveEnd::Closed,
                Ok(len) => bytes.extend_from_slice(buffer.get(..len).unwrap_or_default()),
                Err(error) => return ReceiveEnd::Failed(error),
            }
            if bytes.len() >= NONCE_LEN {
                return ReceiveEnd::Enough;
            }
        }
    };
    let end = timeout(patience, reading).await.unwrap_or(ReceiveEnd::TimedOut);
    Received { bytes, end }
}

/// Who says nothing may wait for a question.
async fn speaks_http(address: SocketAddr, patience: Duration) -> &'static str {
    let asking = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(b"HEAD / HTTP/1.0\r\n\r\n").await?;
        let mut start = [0; 5];
        socket.read_exact(&mut start).await?;
        Ok::<bool, std::io::Error>(start == *b"HTTP/")
    };
    match timeout(patience, asking).await {
        Ok(Ok(true)) => "; it is a web server",
        _ => "",
    }
}

/// What is wrong with a nonce that devices take all the same.
fn weakness(nonce: &[u8; NONCE_LEN]) -> Option<String> {
    let mut different = nonce.to_vec();
    different.sort_unstable();
    different.dedup();
    match different.len() {
        1 if nonce.first() == Some(&0) => {
            Some("the nonce is all zeros: whoever recorded an identity can send it again".to_owned())
        }
        found if found < MIN_DIFFERENT => {
            Some(format!("the nonce has only {found} different bytes: it is not random"))
        }
        _ => None,
    }
}

fn excerpt(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.get(..60).unwrap_or(bytes).escape_ascii())
}

/// The handshake on a connection of its own.
async fn try_handshake(
    address: SocketAddr,
    seen: [u8; NONCE_LEN],
    device: &trial::Device,
    patience: Duration,
    report: &mut Report,
) -> Result<Verdict, Failure> {
    let Some(mut socket) = connect(address, patience, report).await? else {
        return Ok(Err(Code::Unavailable));
    };
    let begun = Instant::now();
    let received = receive(&mut socket, patience).await;
    let took = begun.elapsed();
    let Ok(nonce) = <[u8; NONCE_LEN]>::try_from(received.bytes.as_slice()) else {
        let failure = handshake::Failure { stage: Stage::ReceiveNonce, cause: Cause::Closed };
        let detail = "the second connection gets no nonce".to_owned();
        let row = Some(by_failure(&failure, End::Device));
        Outcome { ok: false, detail, warning: None, row }.tell(
            "nonce",
            Some(address),
            took,
            Map::new(),
            report,
        )?;
        return Ok(Err(Code::Protocol));
    };
    let warning =
        (nonce == seen).then(|| "the nonce is that of the first connection: it is not random".to_owned());
    let warning = weakness(&nonce).or(warning);
    Outcome { ok: true, detail: "40 bytes of nonce".to_owned(), warning, row: None }.tell(
        "nonce",
        Some(address),
        took,
        Map::new(),
        report,
    )?;

    let mut passed = 0;
    let mut told = Ok(());
    let show = |name, took| {
        passed += 1;
        let detail = match name {
            "identity" => "sent, encrypted with the server's key",
            "session" => "the server answers with the session message",
            "keys" => "the session message opens with the device's key and is signed by the server",
            _ => "the server says Hello",
        };
        let outcome = Outcome { ok: true, detail: detail.to_owned(), warning: None, row: None };
        if told.is_ok() {
            told = outcome.tell(name, Some(address), took, Map::new(), report);
        }
    };
    let result = trial::handshake(socket, nonce, device, patience, show).await;
    told?;
    let Err((failure, took)) = result else { return Ok(Ok(())) };
    let row = Some(by_failure(&failure, End::Device));
    let name = trial::STEPS.get(passed).copied().unwrap_or("hello");
    Outcome { ok: false, detail: failure.to_string(), warning: None, row }.tell(
        name,
        Some(address),
        took,
        Map::new(),
        report,
    )?;
    Ok(Err(Code::Protocol))
}

/// How a step went.
struct Outcome {
    ok: bool,
    detail: String,
    warning: Option<String>,
    row: Option<&'static Row>,
}

impl Outcome {
    fn tell(
        self,
        step: &'static str,
        address: Option<SocketAddr>,
        took: Duration,
        more: Map<String, Value>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let step = Step {
            step,
            ok: self.ok,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            address: address.map(|address| address.to_string()),
            detail: self.detail,
            warning: self.warning,
            diagnosis: self.row.map(|row| row.code),
            more,
        };
        report.add(step, self.row)
    }
}

fn row(code: &str) -> Option<&'static Row> {
    ROWS.iter().copied().find(|row| row.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_names_addresses_ports_and_ids() {
        let id: DeviceId = "53ff6d065072534212345667".parse().unwrap();
        for (text, host, port) in [
            ("cloud.example", "cloud.example", 5683),
            ("cloud.example:80", "cloud.example", 80),
            ("$id.cloud.example:80", "53ff6d065072534212345667.cloud.example", 80),
            ("10.0.0.1", "10.0.0.1", 5683),
            ("::1", "::1", 5683),
            ("[::1]", "::1", 5683),
            ("[::1]:99", "::1", 99),
        ] {
            assert_eq!(target(text, Some(id)).unwrap(), (host.to_owned(), port), "{text}");
        }
        for bad in ["", ":5683", "host:", "host:0", "host:70000", "host:x", "[::1]5", "$id.example"] {
            assert_eq!(target(bad, None).unwrap_err().code(), Code::Usage, "{bad}");
        }
    }

    #[test]
    fn rows_that_are_named_here_exist() {
        assert!(row("no-internet").is_some() && row("cloud-unreachable").is_some());
    }

    #[test]
    fn nonce_of_few_bytes_is_weak() {
        assert!(weakness(&[0; NONCE_LEN]).is_some_and(|text| text.contains("zeros")));
        assert!(weakness(&[7; NONCE_LEN]).is_some_and(|text| text.contains("not random")));
        let mut counted = [0; NONCE_LEN];
        counted.iter_mut().zip(0..).for_each(|(byte, number)| *byte = number);
        assert_eq!(weakness(&counted), None);
    }
}
