//! `spark cloud debug` against servers that are fine, broken, or something else.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use coap_spark::connection::ServerPolicy;
use coap_spark::handshake::server::{AwaitIdentity, answer};
use coap_spark::session::{Opener, SessionKeys};
use coap_spark::tokio::ServerStream;
use core::time::Duration;
use rand_core::Rng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::Value;
use spark_keys::rsa_backend;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

const ID: &str = "53ff6d065072534212345667";

/// Keys are made once: it takes seconds.
struct Keys {
    server: Arc<RsaPrivateKey>,
    other_server: Arc<RsaPrivateKey>,
    device_public: RsaPublicKey,
    other_device: RsaPublicKey,
    folder: tempfile::TempDir,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let rng = &mut rand::rng();
        let folder = tempfile::tempdir().unwrap();
        let server = rsa_backend::generate_server_key(rng).unwrap();
        let device = rsa_backend::generate_device_key(rng).unwrap();
        let public = |key: &spark_keys::DeviceKey| {
            let view = spark_keys::RsaPrivateKeyView::parse(key.as_der()).unwrap();
            rsa_backend::to_rsa_private(&view).unwrap().to_public_key()
        };
        let spki = rsa_backend::server_spki(server.as_public_key()).unwrap();
        std::fs::write(folder.path().join("server.der"), spki).unwrap();
        std::fs::write(folder.path().join("device.der"), device.as_der()).unwrap();
        Keys {
            server: Arc::new(server),
            other_server: Arc::new(rsa_backend::generate_server_key(rng).unwrap()),
            device_public: public(&device),
            other_device: public(&rsa_backend::generate_device_key(rng).unwrap()),
            folder,
        }
    })
}

fn file(name: &str) -> String {
    let path: &Path = keys().folder.path();
    path.join(name).to_str().unwrap().to_owned()
}

/// A server that does this with every connection.
fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let each = Arc::new(each);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let each = Arc::clone(&each);
            std::thread::spawn(move || each(socket));
        }
    });
    address
}

fn nonce() -> [u8; 40] {
    let mut nonce = [0; 40];
    rand::rng().fill_bytes(&mut nonce);
    nonce
}

/// Holds a connection until the peer closes it.
fn hold(mut socket: TcpStream) {
    let _ = socket.read_to_end(&mut Vec::new());
}

fn debug(arguments: &[&str]) -> (Value, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_spark"))
        .args(["cloud", "debug", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{:?}", output.stderr));
    (json, output.status.code().unwrap())
}

fn with_device(address: SocketAddr) -> (Value, i32) {
    let (device, server) = (file("device.der"), file("server.der"));
    let address = address.to_string();
    debug(&[&address, "--id", ID, "--device-key", &device, "--server-key", &server, "--timeout", "3"])
}

/// The step that failed, and its row.
fn failed(json: &Value) -> (&str, &str) {
    assert_eq!(json["ok"], false);
    let steps = json["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["ok"] == false).unwrap();
    let row = step["diagnosis"].as_str().unwrap();
    let rows = json["diagnosis"].as_array().unwrap();
    assert!(rows.iter().any(|found| found["code"] == row && !found["first"].as_str().unwrap().is_empty()));
    (step["step"].as_str().unwrap(), row)
}

fn detail(json: &Value) -> &str {
    json["steps"].as_array().unwrap().last().unwrap()["detail"].as_str().unwrap()
}

/// A handshake as a server, with these keys.
fn handshake(
    socket: &mut TcpStream,
    decrypting: &RsaPrivateKey,
    device: Option<&RsaPublicKey>,
) -> Option<SessionKeys> {
    let mut waiting = AwaitIdentity::start(nonce(), Duration::ZERO);
    socket.write_all(waiting.nonce()).ok()?;
    let mut identity = [0; 256];
    socket.read_exact(&mut identity).ok()?;
    waiting.push(&identity);
    let mut session = [0; 40];
    rand::rng().fill_bytes(&mut session);
    let accepted =
        answer(waiting, decrypting, |_, _| device, SessionKeys::new(session), &mut rand::rng()).ok()?;
    socket.write_all(&accepted.message).ok()?;
    Some(accepted.session)
}

#[test]
fn nobody_listens() {
    // Bound and not listened on would be taken; this one was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (json, code) = debug(&[&address]);
    assert_eq!((failed(&json), code), (("connect", "cloud-unreachable"), 69));
    let (json, code) = debug(&["no-such-host.invalid", "--timeout", "3"]);
    assert_eq!((failed(&json), code), (("resolve", "no-internet"), 69));
    assert_eq!((&json["host"], &json["port"]), (&Value::from("no-such-host.invalid"), &Value::from(5683)));
}

#[test]
fn server_that_closes_is_silent_or_sends_too_little() {
    for (address, words) in [
        (serve(drop), "closes after 0 of 40"),
        (serve(hold), "says nothing"),
        (serve(|mut socket| drop(socket.write_all(&nonce()[..39]))), "closes after 39 of 40"),
        (
            serve(|mut socket| {
                let _ = socket.write_all(&nonce()[..39]);
                hold(socket);
            }),
            "39 of 40 bytes come, and no more",
        ),
    ] {
        let (json, code) = debug(&[&address.to_string(), "--timeout", "1"]);
        assert_eq!((failed(&json), code), (("nonce", "no-nonce"), 76), "{words}");
        assert!(detail(&json).contains(words), "{json}");
        assert_eq!(json["diagnosis"][0]["points"], serde_json::json!(["F2"]));
        assert_eq!(json["diagnosis"][0]["codes"]["0.8.0 to 1.5.2"], serde_json::json!([25]));
    }
}

#[test]
fn other_servers_are_recognised() {
    let web = serve(|mut socket| {
        let mut request = [0; 512];
        if socket.read(&mut request).is_ok_and(|len| len > 0) {
            let _ = socket.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n");
        }
    });
    let (json, code) = debug(&[&web.to_string(), "--timeout", "1"]);
    assert_eq!((failed(&json), code), (("nonce", "no-nonce"), 76));
    assert!(detail(&json).contains("web server"), "{json}");

    for banner in [
        &b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"[..],
        &b"220 mail.example ESMTP \x1b[2J, what can we do for you\r\n"[..],
    ] {
        let address = serve(move |mut socket| {
            let _ = socket.write_all(banner);
            hold(socket);
        });
        let (json, code) = debug(&[&address.to_string(), "--timeout", "2"]);
        assert_eq!((failed(&json), code), (("nonce", "no-nonce"), 76));
        assert!(!detail(&json).contains('\u{1b}'));
    }
}

#[test]
fn nonce_that_is_not_random_is_a_warning() {
    let zeros = serve(|mut socket| {
        let _ = socket.write_all(&[0; 40]);
        hold(socket);
    });
    let (json, code) = debug(&[&zeros.to_string()]);
    assert_eq!((code, &json["ok"]), (0, &Value::from(true)));
    let step = json["steps"].as_array().unwrap().last().unwrap();
    assert!(step["warning"].as_str().unwrap().contains("zeros"));
}

#[test]
fn healthy_server_takes_the_device() {
    let keys = keys();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (server, device) = (Arc::clone(&keys.server), keys.device_public.clone());
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (server, device) = (Arc::clone(&server), device.clone());
            tokio::spawn(async move {
                let look_up = async |_, _: Option<[u8; 162]>| Some(device);
                let stream: Result<(_, ServerStream<_>), _> =
                    ServerStream::accept(socket, server, ServerPolicy::DEFAULT, rand::rng, look_up).await;
                if let Ok((_, mut stream)) = stream {
                    while stream.next().await.is_ok() {}
                }
            });
        }
    });
    let (json, code) = with_device(address);
    assert_eq!((code, &json["ok"]), (0, &Value::from(true)), "{json}");
    let steps: Vec<&str> =
        json["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    let expected =
        ["resolve", "connect", "nonce", "connect", "nonce", "identity", "session", "keys", "hello"];
    assert_eq!(steps, expected);

    let output = Command::new(env!("CARGO_BIN_EXE_spark"))
        .args(["cloud", "debug", &address.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ok     nonce 127.0.0.1") && text.contains("as devices expect"), "{text}");
}

#[test]
fn each_refusal_in_the_handshake_has_its_row() {
    let keys = keys();
    // A server with another key cannot read the identity.
    let address =
        serve(|mut socket| drop(handshake(&mut socket, &keys.other_server, Some(&keys.device_public))));
    let (json, code) = with_device(address);
    assert_eq!((failed(&json), code), (("session", "dropped-after-identity"), 76));

    // It reads it, and does not know the device.
    let address = serve(|mut socket| drop(handshake(&mut socket, &keys.server, None)));
    let (json, code) = with_device(address);
    assert_eq!((failed(&json), code), (("session", "dropped-after-identity"), 76));
    let led = &json["diagnosis"][0]["led"][0];
    assert_eq!((&led["color"], &led["flashes"]), (&Value::from("red"), &Value::from(1)));

    // It has another public key for it. RSA without padding errors may show as a wrong signature.
    let address = serve(|mut socket| drop(handshake(&mut socket, &keys.server, Some(&keys.other_device))));
    let (json, code) = with_device(address);
    let (step, row) = failed(&json);
    assert_eq!((step, code), ("keys", 76));
    assert!(matches!(row, "device-key-mismatch" | "server-key-mismatch"), "{row}");

    // It says nothing behind the identity.
    let address = serve(|mut socket| {
        let _ = socket.write_all(&nonce());
        hold(socket);
    });
    let (json, code) = with_device(address);
    assert_eq!((failed(&json), code), (("session", "silent-after-identity"), 76));
}

#[test]
fn wrong_signature_and_missing_hello_have_their_rows() {
    let keys = keys();
    // Opens with one key and signs with another.
    let address = serve(|mut socket| {
        let mut waiting = AwaitIdentity::start(nonce(), Duration::ZERO);
        let _ = socket.write_all(waiting.nonce());
        let mut identity = [0; 256];
        if socket.read_exact(&mut identity).is_err() {
            return;
        }
        waiting.push(&identity);
        let (waiting, job) = waiting.complete().unwrap();
        let identified = waiting.resume(job.run(&*keys.server, &mut rand::rng())).unwrap();
        let (waiting, job) = identified.accept(SessionKeys::new([9; 40]));
        let sealed = job.run(&keys.device_public, &*keys.other_server, &mut rand::rng());
        let _ = socket.write_all(&waiting.resume(sealed).unwrap().message);
        hold(socket);
    });
    let (json, code) = with_device(address);
    assert_eq!((failed(&json), code), (("keys", "server-key-mismatch"), 76));

    // Does all but its Hello; the device's one is as it should be.
    let address = serve(|mut socket| {
        if let Some(session) = handshake(&mut socket, &keys.server, Some(&keys.device_public)) {
            let mut frame = [0; 18];
            socket.read_exact(&mut frame).unwrap();
            let len = Opener::new(&session).open_in_place(&mut frame[2..]).unwrap();
            assert_eq!((len, &frame[6..8]), (15, &[0xb1, b'h'][..]));
            hold(socket);
        }
    });
    let (json, code) = with_device(address);
    assert_eq!((failed(&json), code), (("hello", "no-server-hello"), 76));
}

#[test]
fn arguments_that_do_not_fit_are_usage_errors() {
    for arguments in [
        &["host", "--id", "12"][..],
        &["$id.example"],
        &["host:99999"],
        &["host", "--device-key", "x"],
        &["host", "--timeout", "0"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_spark"))
            .args(["cloud", "debug"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
