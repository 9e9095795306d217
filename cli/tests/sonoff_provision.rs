//! `spark sonoff provision` against the simulated device, and against what is no device.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

#[path = "common/sonoff.rs"]
mod common;
mod sonoff_server;

use common::{KEY, image, pairing, spark};
use serde_json::Value;
use sonoff_server::{Sending, Server};
use spark_cli::sonoff::tls::Acceptor;
use spark_ota::esp8266::Slot;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::thread;

const PASSWORD: &str = "secret-123";

fn provision(at: &str, arguments: &[&str]) -> Output {
    let output = spark(&["provision", "--ssid", "testnet", "--at", at])
        .args(arguments)
        .env("SPARK_WIFI_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        assert!(!text.contains(KEY) && !text.contains(PASSWORD), "{text}");
    }
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A device that answers its requests with these texts, one a connection, and then closes; nothing for an empty one. What it was
/// asked comes back.
fn scripted(answers: &[&str]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers: Vec<_> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut buffer = [0; 2048];
            let count = socket.read(&mut buffer).unwrap();
            asked.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            socket.write_all(answer.as_bytes()).unwrap();
            if answer.is_empty() {
                // Silent for as long as the client has patience.
                let _ = socket.read(&mut buffer);
            }
        }
        asked
    });
    (address, asked)
}

fn http(json: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
}

fn who() -> String {
    http(&format!(r#"{{"deviceid":"1000abcdef","apikey":"{KEY}","accept":"post"}}"#))
}

#[test]
fn a_device_is_told_and_installs_what_that_server_has() {
    let images = Slot::ALL.map(|slot| image(slot, 8000));
    let server = Server::new(Acceptor::plain(), images.clone(), images, Sending::Fast);
    let device = spark(&["device", "--id", "1000abcdef", "--plain", "--json", "--give-up-after", "60"]);
    let (mut device, at, said) = pairing(device);
    let output = provision(&at, &["--server", &server.address.to_string(), "--json"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["device_id"], &told["taken"]), (&"1000abcdef".into(), &true.into()));
    assert_eq!((&told["ssid"], &told["port"]), (&"testnet".into(), &server.address.port().into()));
    assert!(told["hint"].as_str().unwrap().contains("60 s"));
    let rest = said.rest();
    assert_eq!(device.wait().unwrap().code(), Some(0), "{rest}");
    assert_eq!(server.log.lines().last().unwrap(), "register 9.9.9");
}

#[test]
fn password_is_sent_and_a_connection_for_each_request_is_no_fault() {
    let (at, asked) = scripted(&[&who(), &http(r#"{"error":0}"#)]);
    let output = provision(&at, &["--server", "192.168.77.10"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(text.contains("1000abcdef") && text.contains("192.168.77.10:8443"), "{text}");
    assert!(stderr(&output).contains("5 GHz") && !stderr(&output).contains("warning"), "{}", stderr(&output));
    let asked = asked.join().unwrap();
    assert!(asked[0].starts_with("GET /device HTTP/1.1\r\n"));
    assert!(asked[1].contains(&format!(
        r#"{{"version":4,"ssid":"testnet","password":"{PASSWORD}","serverName":"192.168.77.10","port":8443}}"#
    )));
}

#[test]
fn every_code_of_a_device_has_its_words() {
    for (code, what, next) in [
        (400, "timeout (400)", "closer"),
        (401, "wrong password (401)", "check the password of \"testnet\""),
        (402, "no access point of that name found (402)", "2.4 GHz"),
        (403, "connect failed (403)", "takes new clients"),
        (404, "unknown exception (404)", "power-cycle"),
        (499, "code 499", "power-cycle"),
    ] {
        let (at, _asked) = scripted(&[&who(), &http(&format!(r#"{{"error":{code}}}"#))]);
        let output = provision(&at, &["--server", "192.168.77.10"]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(76), "{text}");
        assert!(text.contains(what) && text.contains(next), "{text}");
    }
}

#[test]
fn what_is_no_device_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = provision(&free, &["--server", "192.168.77.10"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains(&format!("nothing answers at {free}")) && text.contains("ITEAD-"), "{text}");
    for (answer, what) in [
        ("SSH-2.0-something\r\n\r\n", "no device"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (&http("[1]"), "no JSON object"),
        (&http(r#"{"deviceid":"1000abcdef"}"#), "apikey"),
    ] {
        let (at, _asked) = scripted(&[answer]);
        let output = provision(&at, &["--server", "192.168.77.10"]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(76), "{text}");
        assert!(text.contains(what) && text.contains("does not speak as a Sonoff"), "{text}");
    }
}

#[test]
fn device_that_does_not_answer_is_given_ten_seconds() {
    let (at, _asked) = scripted(&[&who(), ""]);
    let began = std::time::Instant::now();
    let output = provision(&at, &["--server", "192.168.77.10"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(76), "{text}");
    assert!(text.contains("whether it has taken them cannot be told"), "{text}");
    assert!(began.elapsed().as_secs() >= 9, "{:?}", began.elapsed());
}

#[test]
fn what_a_device_cannot_use_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let long = "n".repeat(51);
    for (arguments, what) in [
        (&["--server", &long][..], "name of the server"),
        (&["--server", "server:0"], "no address"),
        (&["--server", "::1"], "no address"),
        (&["--server", "a:1", "--password-file", "/nowhere/password"], "/nowhere/password"),
    ] {
        let output = provision(&at, arguments);
        let text = stderr(&output);
        assert!(matches!(output.status.code(), Some(64 | 66)) && text.contains(what), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "p".repeat(64)).unwrap();
    let output = provision(&at, &["--server", "a", "--password-file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("64 bytes, and 63 fit"), "{}", stderr(&output));
    // Without a terminal nobody can be asked.
    let output = spark(&["provision", "--ssid", "testnet", "--server", "a", "--at", &at])
        .env_remove("SPARK_WIFI_PASSWORD")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--password-file"), "{}", stderr(&output));
    assert!(listener.accept().is_err(), "nobody has connected");
}

#[test]
fn server_that_the_device_cannot_reach_is_warned_of() {
    // Not a loopback address for the program, and nothing is there: no packet leaves this computer.
    let output = spark(&["provision", "--ssid", "testnet", "--at", "localhost:1", "--server", "127.0.0.1"])
        .env("SPARK_WIFI_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("warning: the server 127.0.0.1"), "{}", stderr(&output));
}

#[test]
fn server_with_a_blank_and_a_password_that_is_no_text_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let output = provision(&at, &["--server", "a b"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(stderr(&output).contains("devices cannot be told the address \"a b\""), "{}", stderr(&output));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_spark"))
            .args(["sonoff", "provision", "--ssid", "testnet", "--server", "a", "--at", &at])
            .env("SPARK_WIFI_PASSWORD", std::ffi::OsStr::from_bytes(b"secret\xff"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64));
        let said = stderr(&output);
        assert!(said.contains("SPARK_WIFI_PASSWORD is not UTF-8") && !said.contains("secret"), "{said}");
    }
    assert!(listener.accept().is_err(), "nobody has connected");
}
