//! `spark keys server` and `spark keys address`.

use crate::bench::{Bench, ID};
use crate::{Vectors, codes, text, vector};
use serde_json::Value;
use spark_dct::ServerKeyRegion;
use spark_dct::segment::KeyAlgorithm;

#[test]
fn server_key_and_address_are_written_in_every_form() {
    let bench = Bench::new("keys");
    let region = |bench: &Bench| bench.table()[2082..2082 + 512].to_vec();
    for file in ["server2048.spki.der", "server2048.spki.pem", "server2048.pkcs1.der", "server2048.pem"] {
        bench.vector(file);
        bench.device(&["server", file, "--host", "cloud.example.org", "--port", "8080"]);
        let bytes = region(&bench);
        let view = ServerKeyRegion::parse(KeyAlgorithm::Rsa, &bytes).unwrap();
        assert!(view.key().unwrap().as_spki() == vector("server2048.spki.der"), "{file}");
        let address = view.address().unwrap().unwrap();
        assert_eq!(address.port(), Some(8080), "{file}");
        bench.device(&["server", "--particle"]);
    }
    // The tool's own file differs in a 00 behind the name, which means nothing.
    let mut tool = vector("particle_server_rsa_512.der");
    tool[384 + 2 + 15] = 0xFF;
    assert!(region(&bench) == tool);
    assert_eq!(text(&bench.device(&["address"])["host"]), "device.spark.io");

    // A bare key leaves the address alone, a file with an address brings its own.
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    bench.device(&["server", "server2048.pem"]);
    assert_eq!(text(&bench.device(&["address"])["host"]), "10.0.0.7");
    bench.put("both.der", region(&bench));
    bench.device(&["server", "--particle"]);
    bench.device(&["server", "both.der"]);
    assert_eq!(text(&bench.device(&["address"])["host"]), "10.0.0.7");

    // UDP has its own place and form.
    bench.device(&["server", "--particle", "--protocol", "udp"]);
    let mut tool = vector("particle_server_ec_320.der");
    tool[192 + 2 + 19] = 0xFF;
    assert!(bench.table()[3298..3298 + 320] == tool);
    let address = bench.device(&["address", "--protocol", "udp"]);
    assert_eq!(text(&address["expanded"]), format!("{ID}.udp.particle.io"));
}

#[test]
fn wrong_server_keys_and_addresses_are_refused() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    bench.vector("rsa1024_608.spki.der");
    bench.vector("ec_p256.spki.der");
    bench.device(&["address"]);
    let before = bench.read("flash");
    let long = "a".repeat(64);
    for (arguments, code) in [
        (["rsa1024_608.spki.der", "--host", "a.example"], 65),
        (["ec_p256.spki.der", "--host", "a.example"], 65),
        (["server2048.spki.der", "--host", "256.1.2"], 64),
        (["server2048.spki.der", "--host", "1.2.3.4.5"], 64),
        (["server2048.spki.der", "--host", "fe80::1"], 64),
        (["server2048.spki.der", "--host", &long], 64),
        (["server2048.spki.der", "--host", "bücher.example"], 64),
        (["server2048.spki.der", "--port", "80"], 64),
    ] {
        let (found, message) = bench.device_fails(&[&["server"], &arguments[..]].concat());
        assert_eq!(found, code, "{arguments:?}: {message}");
        assert!(message.contains("next: "), "{message}");
    }
    // No address anywhere: the device would go to the vendor's cloud with another server's key.
    let (code, message) = bench.device_fails(&["server", "server2048.spki.der"]);
    assert_eq!(code, 64);
    assert!(message.contains("--host"), "{message}");
    assert!(bench.read("flash") == before);
}

#[test]
fn address_comes_from_where_an_address_is_and_nowhere_else() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    let host = || text(&bench.device(&["address"])["host"]).to_owned();
    // Padded with zeros, with garbage, cut off behind the address.
    let padded = |fill: u8, len: usize| {
        let mut file = vector("server2048.spki.der");
        file.resize(len, fill);
        file
    };
    bench.put("zeros", padded(0, 512));
    bench.device(&["server", "zeros"]);
    assert_eq!(host(), "10.0.0.7", "zeros are no address");
    let mut garbage = padded(0x11, 512);
    garbage[384..390].copy_from_slice(&[0, 4, 1, 2, 3, 4]);
    bench.put("garbage", garbage);
    bench.device(&["server", "garbage"]);
    assert_eq!(host(), "10.0.0.7", "what is not behind padding is no address");
    let mut short = padded(0xFF, 402);
    short[384..402].copy_from_slice(b"\x01\x10cloud.example.or");
    bench.put("short", short);
    bench.device(&["server", "short"]);
    assert_eq!(host(), "cloud.example.or");
    let mut long = padded(0xFF, 512);
    long[384] = 1;
    long[385] = 90;
    long[386..386 + 90].fill(b'a');
    bench.put("long", long);
    let (code, message) = bench.device_fails(&["server", "long"]);
    assert!(code == 65 && message.contains("90"), "{message}");
}

#[test]
fn hosts_are_host_names_and_addresses_and_may_have_a_port() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    let server = |host: &str, more: &[&str]| {
        let arguments =
            [&["server", "server2048.spki.der", "--host", host, "--virtual", "flash"], more].concat();
        bench.run(&arguments).status.code().unwrap()
    };
    for (host, shown) in [
        ("192.168.1.5:8080", "tcp://192.168.1.5:8080"),
        ("cloud.example.org:80", "tcp://cloud.example.org:80"),
        ("$id.cloud.example.org", "tcp://$id.cloud.example.org:5683"),
        ("my_cloud", "tcp://my_cloud:5683"),
    ] {
        assert_eq!(server(host, &[]), 0, "{host}");
        assert_eq!(bench.plain(&["address", "--virtual", "flash"]).1.trim_end(), shown);
    }
    for host in
        ["http://example.org/", "x/y", "a..b", "-", "$id.$id.$id.$id.x", "0.0.0.0", "a:0", "a:65535", "a:b"]
    {
        assert_eq!(server(host, &[]), 64, "{host}");
    }
    assert_eq!(server("a:80", &["--port", "81"]), 64);
    assert_eq!(server("a", &["--port", "65535"]), 64);
}

#[test]
fn odd_address_is_explained_wherever_it_is_shown() {
    let bench = Bench::new("keys");
    bench.vector("server2048.spki.der");
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    let odd = |value: &Value| !value["remarks"].as_array().unwrap().is_empty();
    assert!(!odd(&bench.device(&["address"])));
    // What the host tool makes of 256.1.2.
    let mut block = [0xFF; 128];
    block[..6].copy_from_slice(&[0, 3, 0, 1, 2, 0]);
    bench.damage(2466, &block);
    assert!(odd(&bench.device(&["address"])));
    let (code, out, _) = bench.plain(&["address", "--virtual", "flash"]);
    assert!(code == 0 && out.contains("0.1.2.0") && out.contains("length 3 in place of 4"), "{out}");
    let (code, out, _) = bench.plain(&["check", "--virtual", "flash"]);
    assert!(code == 0 && out.contains("server-address-ipv4-length"), "{out}");
    assert!(out.contains("connects to 0.1.2.0") && out.contains("length 3 in place of 4"), "{out}");
    // It is kept as it is, and said.
    let written = bench.device(&["server", "server2048.spki.der"]);
    assert!(written["write"]["changed"] == false && odd(&written["address"]), "{written}");
    let (_, out, _) = bench.plain(&["server", "server2048.spki.der", "--virtual", "flash"]);
    assert!(out.contains("length 3 in place of 4"), "{out}");
    // The same in a file of the host tool.
    let mut file = vector("server2048.spki.der");
    file.resize(384, 0xFF);
    file.extend(block);
    bench.put("file", file);
    let (code, out, _) = bench.plain(&["check", "file"]);
    assert!(code == 0 && out.contains("server-address-ipv4-length"), "{out}");
    bench.device(&["server", "server2048.spki.der", "--host", "10.0.0.7"]);
    assert_eq!(codes(&bench.device(&["check"])["keys"][1]), [""; 0]);
}

#[test]
fn server_key_of_a_cloud_is_the_one_that_it_uses() {
    let bench = Bench::new("keys");
    bench.cloud("cloud");
    let key = bench.read("cloud/server-key.pub.pem");
    bench.put("cloud/server-key.pub.pem", vector("server2048.spki.pem"));
    bench.device(&["server", "--cloud", "cloud", "--host", "10.0.0.1"]);
    bench.put("right.pem", key);
    let right = bench.ok(&["check", "right.pem"]);
    let written = bench.device(&["check"]);
    assert_eq!(written["keys"][1]["fingerprint"], right["keys"][0]["fingerprint"]);
}

#[test]
fn own_key_does_not_go_to_the_vendors_address() {
    let bench = Bench::new("keys");
    bench.cloud("cloud");
    bench.vector("server2048.spki.der");
    bench.device(&["server", "--particle"]);
    let before = bench.read("flash");
    for key in [&["--cloud", "cloud"][..], &["server2048.spki.der"]] {
        let (code, message) = bench.device_fails(&[&["server"], key].concat());
        assert!(code == 64 && message.contains("device.spark.io") && message.contains("--host"), "{message}");
        assert!(bench.read("flash") == before);
    }
    bench.device(&["server", "--cloud", "cloud", "--host", "10.0.0.1"]);
    bench.device(&["server", "server2048.spki.der"]);
    assert_eq!(text(&bench.device(&["address"])["host"]), "10.0.0.1");
    bench.device(&["check"]);

    // Written so by another tool, or with the address erased, it is found.
    for host in ["udp.particle.io", "device.spark.io"] {
        bench.device(&["server", "server2048.spki.der", "--host", host]);
        let checked = bench.json(&["check", "--virtual", "flash"], 65);
        assert_eq!(codes(&checked["keys"][1]), ["server-address-of-vendor"], "{host}");
    }
    bench.damage(2466, &[0xFF; 128]);
    let checked = bench.json(&["check", "--virtual", "flash"], 65);
    assert_eq!(codes(&checked["keys"][1]), ["server-address-erased", "server-address-of-vendor"]);
    // A name of others that only looks alike.
    bench.device(&["server", "server2048.spki.der", "--host", "notparticle.io"]);
    bench.device(&["check"]);
}
