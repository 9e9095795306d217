//! `spark sonoff provision`.

use crate::exit::{Code, Failure, chain};
use crate::serial::wifi::read_password;
use crate::ui;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use serde_json::json;
use spark_ota::sonoff::provisioning::{
    ADDRESS, AP_PASSWORD, AP_PREFIX, Access, AccessError, ApCode, Output, PORT, Provisioning,
    ProvisioningError,
};
use spark_ota::sonoff::upgrade::{UrlParts, UrlProblem};
use std::env::VarError;
use std::io::IsTerminal;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroizing;

/// Where the server is if no port is given.
const SERVER_PORT: u16 = 8443;
const CONNECT: Duration = Duration::from_secs(5);
/// A device that closes after its answer has done so by then.
const CLOSES: Duration = Duration::from_millis(300);
/// A device that has not come to the server by then does not come.
const PATIENCE: u64 = 60;
/// Environment variable with the password.
const VARIABLE: &str = "SPARK_WIFI_PASSWORD";

/// Tell a Sonoff which Wi-Fi network to join and which server to ask.
///
/// Press the device's button for 5 to 7 seconds until its LED blinks fast (some need it twice). It opens the network ITEAD- and its
/// id, password 12345678, for three minutes: join that with this computer, then run this command. The Wi-Fi password is asked
/// for, unless --password-file or the environment variable SPARK_WIFI_PASSWORD has it; an empty one is an open network.
///
/// The device answers before it tries to join. Whether it can is seen at the server only.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name of the home network, 2.4 GHz; at most 31 bytes.
    #[arg(long, value_name = "NAME")]
    ssid: String,
    /// File with the Wi-Fi password in its first line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The server as the device sees it in the home network; without a port 8443.
    #[arg(long, value_name = "HOST[:PORT]")]
    server: String,
    /// Where the device is, if not at 10.10.7.1:80.
    #[arg(long, value_name = "ADDRESS")]
    at: Option<String>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

fn password(args: &Args) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = &args.password_file {
        return read_password(path);
    }
    match std::env::var(VARIABLE) {
        Ok(password) => return Ok(Zeroizing::new(password)),
        Err(VarError::NotUnicode(value)) => {
            // It is a password, though not one of these.
            drop(Zeroizing::new(value.into_encoded_bytes()));
            return Err(Failure::new(
                Code::Usage,
                format_args!("the password in {VARIABLE} is not UTF-8"),
                format_args!("set {VARIABLE} anew, or give --password-file FILE; nothing was sent"),
            ));
        }
        Err(VarError::NotPresent) => {}
    }
    let missing = |what: String| {
        Failure::new(Code::Usage, what, format_args!("give --password-file FILE, or set {VARIABLE}"))
    };
    if !std::io::stdin().is_terminal() {
        return Err(missing("there is no terminal to ask for the Wi-Fi password".to_owned()));
    }
    rpassword::prompt_password(format!("password of {:?} (not shown): ", args.ssid))
        .map(Zeroizing::new)
        .map_err(|error| missing(format!("cannot ask for the Wi-Fi password: {error}")))
}

/// Cuts `HOST[:PORT]`.
fn host_and_port(text: &str, port: u16) -> Result<(&str, u16), Failure> {
    let cut = match text.split_once(':') {
        None => Some((text, port)),
        Some((host, port)) => port.parse().ok().map(|port| (host, port)),
    };
    cut.filter(|(host, port)| !host.is_empty() && *port != 0).ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format_args!("{text:?} is no address that a device can use"),
            "give a name or an IPv4 address, and perhaps a port: 192.168.1.10:8443",
        )
    })
}

/// Why a device in a home network would not find this server.
fn unreachable(host: &str) -> Option<String> {
    let why = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_loopback() => {
            "is this computer for itself, but the device for the device"
        }
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "is no address that can be connected to",
        Ok(IpAddr::V4(address)) if address.octets()[..3] == [10, 10, 7] => {
            "is in the network of the device's own access point, which closes"
        }
        Ok(IpAddr::V4(address)) if address.is_link_local() => "is an address without a network",
        Ok(IpAddr::V4(address)) if !address.is_private() => {
            "is not in a home network: images come without encryption"
        }
        Ok(IpAddr::V6(_)) => "is an IPv6 address, which these devices do not have",
        Ok(IpAddr::V4(_)) => return None,
        Err(_) if host.eq_ignore_ascii_case("localhost") => {
            "is this computer for itself, but the device for the device"
        }
        Err(_) if host.to_ascii_lowercase().ends_with(".local") => {
            "is a name of mDNS, which these devices do not ask"
        }
        // Names of numbers that are none, as 192.168.1.300.
        Err(_) if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => "is no IPv4 address",
        Err(_) => return None,
    };
    Some(format!("the server {host} {why}: give its address in the home network"))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (host, port) = host_and_port(&args.server, SERVER_PORT)?;
    let default = format!("{ADDRESS}:{PORT}");
    let at = args.at.as_deref().unwrap_or(&default);
    let (device_host, device_port) = host_and_port(at, PORT)?;
    let password = password(args)?;
    let access = Access::new(&args.ssid, &password, host, port).map_err(|error| {
        let next = match error {
            AccessError::Ssid(_) => "see --ssid; nothing was sent",
            AccessError::Password(_) => "see the password; nothing was sent",
            _ => "see --server; nothing was sent",
        };
        Failure::new(Code::Usage, chain(&error), next)
    })?;
    // As `serve --address` has it.
    if let Err(problem @ UrlProblem::Host) = UrlParts::new(&format!("http://{host}:{port}/")) {
        return Err(Failure::new(
            Code::Usage,
            format_args!("devices cannot be told the address {host:?}: {problem}"),
            "give an address like 192.168.1.10, or a short name; nothing was sent",
        ));
    }
    // With a simulated device on this computer all is well.
    let simulated = device_host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    let warning = unreachable(host).filter(|_| !simulated);
    if let Some(warning) = warning.as_ref().filter(|_| !args.json) {
        ui::say(format_args!("warning: {warning}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    let client = runtime.block_on(talk(access, device_host, device_port))?;
    let device = match client.outcome() {
        Some(Ok(device)) => device,
        Some(Err(error)) => return Err(failure(error, &args.ssid, at)),
        None => return Err(Failure::new(Code::Software, "the dialogue has no result", "report this")),
    };
    let id = device.device_id;
    let hint = format!(
        "it says so before it tries to join: if nothing comes to the server within {PATIENCE} s, the Wi-Fi password is wrong, the \
         network has 5 GHz only, or its access point keeps clients apart (a phone's hotspot often helps)"
    );
    if args.json {
        let warnings: Vec<_> = warning.into_iter().collect();
        return ui::print(json!({
            "device_id": id.as_str(), "ssid": args.ssid, "server": host, "port": port, "taken": true,
            "hint": hint, "warnings": warnings,
        }));
    }
    ui::print(format_args!(
        "device {id} has taken its settings: it joins {:?} and asks {host}:{port}",
        args.ssid
    ))?;
    ui::say(format_args!("  {hint}"));
    Ok(())
}

async fn connect(host: &str, port: u16) -> Option<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.ok()?.collect();
    for address in addresses {
        if let Ok(Ok(socket)) = timeout(CONNECT, TcpStream::connect(address)).await {
            return Some(socket);
        }
    }
    None
}

/// Runs the client of the library to its end.
async fn talk(access: Access, host: &str, port: u16) -> Result<Provisioning, Failure> {
    let started = Instant::now();
    let mut client = Provisioning::new(Duration::ZERO, access);
    let mut socket: Option<TcpStream> = None;
    let mut buffer = Zeroizing::new([0; 2048]);
    loop {
        while let Some(output) = client.poll_output() {
            match output {
                Output::Connect => {
                    socket = connect(host, port).await;
                    match socket {
                        Some(_) => client.connected(started.elapsed()),
                        None => client.closed(started.elapsed()),
                    }
                }
                Output::Send(bytes) => {
                    if let Some(open) = &mut socket
                        && open.write_all(&bytes).await.is_err()
                    {
                        socket = None;
                        client.closed(started.elapsed());
                    }
                }
                Output::Close => socket = None,
                _ => {}
            }
        }
        if client.outcome().is_some() {
            return Ok(client);
        }
        let deadline = client.next_deadline().and_then(|deadline| started.checked_add(deadline));
        let reads = socket.is_some();
        tokio::select! {
            came = read(socket.as_mut(), &mut *buffer), if reads => match came {
                Some(count) => {
                    let knew = client.device().is_some();
                    client.handle_input(started.elapsed(), buffer.get(..count).unwrap_or_default());
                    // Some close after each answer. The settings are better not sent into that.
                    if !knew
                        && client.device().is_some()
                        && let Ok(None) = timeout(CLOSES, read(socket.as_mut(), &mut *buffer)).await
                    {
                        socket = None;
                        client.closed(started.elapsed());
                    }
                }
                None => {
                    socket = None;
                    client.closed(started.elapsed());
                }
            },
            () = sleep_until(deadline.unwrap_or(started)) => client.handle_deadline(started.elapsed()),
        }
    }
}

/// Bytes that have come; `None` at the end.
async fn read(socket: Option<&mut TcpStream>, buffer: &mut [u8]) -> Option<usize> {
    socket?.read(buffer).await.ok().filter(|count| *count > 0)
}

fn failure(error: ProvisioningError, ssid: &str, at: &str) -> Failure {
    let (code, next) = match error {
        ProvisioningError::NotConnected => {
            let next = format!(
                "press its button for 5 to 7 s until the LED blinks fast (some need it twice), join the network {AP_PREFIX}… \
                 (password {AP_PASSWORD}) with this computer, and repeat this within three minutes"
            );
            return Failure::new(Code::Unavailable, format_args!("nothing answers at {at}"), next);
        }
        ProvisioningError::NoDevice => {
            (Code::Protocol, "repeat the command; power-cycle the device if it stays silent")
        }
        ProvisioningError::NoAnswer => (
            Code::Protocol,
            "look whether its access point has closed and it comes to the server; if not, repeat the command",
        ),
        ProvisioningError::Refused(code) => {
            let next = match code {
                ApCode::Timeout => {
                    "bring the device closer to the access point and repeat the command".to_owned()
                }
                ApCode::WrongPassword => format!("check the password of {ssid:?} and repeat the command"),
                ApCode::NoApFound => {
                    format!("check the name {ssid:?}; the network needs 2.4 GHz, and must not be hidden")
                }
                ApCode::ConnectFailed => {
                    format!("look whether {ssid:?} takes new clients (filter of addresses, WPA3 only)")
                }
                _ => "power-cycle the device and repeat the command".to_owned(),
            };
            return Failure::new(Code::Protocol, error, next);
        }
        _ => (Code::Protocol, "look what is there: it does not speak as a Sonoff in pairing mode does"),
    };
    Failure::new(code, format_args!("{at}: {}", chain(&error)), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_a_device_cannot_reach_are_told() {
        for host in [
            "127.0.0.1",
            "localhost",
            "0.0.0.0",
            "10.10.7.2",
            "169.254.1.1",
            "8.8.8.8",
            "server.local",
            "192.168.1.300",
        ] {
            assert!(unreachable(host).is_some_and(|text| text.contains(host)), "{host}");
        }
        for host in ["192.168.1.10", "10.0.0.7", "10.10.8.1", "172.16.0.1", "server.lan", "server"] {
            assert_eq!(unreachable(host), None, "{host}");
        }
    }

    #[test]
    fn addresses_are_cut() {
        assert_eq!(host_and_port("192.168.1.10", 8443).unwrap(), ("192.168.1.10", 8443));
        assert_eq!(host_and_port("server:443", 8443).unwrap(), ("server", 443));
        for bad in ["", ":1", "host:", "host:0", "host:65536", "::1", "[::1]:80"] {
            assert!(host_and_port(bad, 8443).is_err(), "{bad}");
        }
    }
}
