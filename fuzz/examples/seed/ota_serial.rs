//! Seeds of YMODEM and listening mode of spark-ota.

use super::{block, put};
use std::error::Error;

/// Transfers as `spark_fuzz::ota_serial` reads them, and what devices and hosts say.
pub(crate) fn ota_serial() -> Result<(), Box<dyn Error>> {
    for (name, choice) in [("particle_small", 0), ("particle", 1), ("standard_small", 6), ("standard", 7)] {
        // 1500 bytes: `C`, then an answer to each packet.
        let mut words = vec![choice, 5, 220, b'C', 6, b'C'];
        words.extend([6; 14]);
        words.extend([b'C', 6]);
        put("ota_ymodem_sender", name, &words)?;
    }
    put("ota_ymodem_sender", "started", &[1, 0, 100, 1, 6, b'C', 6, 6, 6])?;
    put("ota_ymodem_sender", "refused", &[0, 0, 100, b'C', 0x15, 6, b'C', 0x15, 0x15, 3, 2, 0x18, 0x18])?;
    put("ota_ymodem_sender", "silent", &[2, 0, 100, b'C', 0, 0xff, 0xff, 6, b'C', 0, 0xff, 0xff, 6])?;

    for (name, profile) in [("v0_4", 0), ("v2_0", 1), ("standard", 2), ("strict", 3)] {
        let mut stream = vec![profile, 0xff, 0xff, 0x80, 0];
        stream.extend(block(b"fuzz\x00200 "));
        stream.extend([&[0x80, 1][..], &block(&[7; 128]), &[0x80, 2], &block(&[8; 72]), &[4]].concat());
        put("ota_ymodem_receiver", &format!("{name}_cut"), &stream)?;
        stream.extend([&[0x80, 0][..], &block(&[])].concat());
        put("ota_ymodem_receiver", name, &stream)?;
        let mut errors = vec![profile, 0xff, 0xff, 1, 4, 0x80, 0];
        errors.extend(
            [&block(b"fuzz\x0010 ")[..], &[0x80, 7], &block(&[]), &[0, 0x20, 0, 0x18, b'?']].concat(),
        );
        put("ota_ymodem_receiver", &format!("{name}_errors"), &errors)?;
    }

    let reply = |name: &str, text: &[u8]| put("ota_listening_host", name, &[&[0], text].concat());
    reply("identity", b"Your device id is 3a0027001747343338303599\r\n")?;
    reply(
        "cellular",
        b"Device ID: 3a0027001747343338303599\r\nIMEI: 353162\r\nICCID: 89340\r\nSerial Number: P01\r\n",
    )?;
    reply("version", b"system firmware version: 0.8.0-rc.9\n\r\n")?;
    reply("mac", b"Your device MAC address is\r\n0b:84:12:34:56\r\n")?;
    reply("claimed", b"Device claimed: no\r\n")?;
    let modules = br#"{"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":26,"f":"s","n":"2","v":207,"d":[]}]}"#;
    reply("modules", modules)?;
    let dialogue = |words: &[&[u8]]| {
        words.iter().flat_map(|words| [block(words), vec![50]].concat()).collect::<Vec<_>>()
    };
    let wifi = dialogue(&[
        b"SSID: ",
        b"net\r\nSecurity 0=unsecured, 1=WEP: ",
        b"3\r\nPassword: ",
        b"Thanks! <3 you!",
    ]);
    put("ota_listening_host", "wifi", &[&[1][..], &wifi].concat())?;
    let waiting = b"Waiting for the binary file to be sent ... (press 'a' to abort)\r\n";
    let flash = dialogue(&[
        b"",
        waiting,
        b"\x06C",
        b"\x06",
        b"\x06",
        b"\x06",
        b"\x06",
        b"Downloaded file successfully!",
    ]);
    put("ota_listening_host", "flash", &[&[3][..], &flash].concat())?;

    let device = |name: &str, words: &[&[u8]]| {
        let data: Vec<u8> = words.iter().flat_map(|words| [block(words), vec![1, 0]].concat()).collect();
        put("ota_listening_device", name, &[&[1][..], &data].concat())
    };
    device("questions", &[b"imsvcdxL?"])?;
    device("wifi", &[b"wnet\r\n", b"3\n1\n", b"passwort\n"])?;
    device("wifi_wrong", &[b"w\n\x08", b"net\n9\n0\n"])?;
    device("claim", &[b"C", &[b'c'; 63], b"\n"])?;
    let header = [&[1, 0, 0xff][..], b"binary\x00100 ", &[0; 128 - 11], &[0, 0]].concat();
    let packet = [&[1, 1, 0xfe][..], &[7; 130]].concat();
    let last = [&[1, 0, 0xff][..], &[0; 130]].concat();
    device("flash", &[b"f", &header, &packet, &[4], &last])?;
    device("abort", &[b"f", &header, b"a", b"i"])
}
