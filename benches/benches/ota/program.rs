//! An ESP8266 program as long as those of SonOTA, checked and patched, for the benchmark and for the count of allocations.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "two binaries use it")]

use spark_benches::image;
use spark_ota::esp8266::{
    Expectations, FlashMode, FlashParameters, ImageBuilder, ImageFile, Patch, Purpose, Sha256Text, Slot,
};

fn few_bits(len: usize) -> Vec<u8> {
    image(len).into_iter().map(|byte| byte & 0x3f).collect()
}

/// 239,220 bytes, v2 with CRC trailer, linked for slot 2.
pub fn program() -> Vec<u8> {
    // No other bytes are addresses by chance.
    let mut code = few_bits(206_704);
    for (at, word) in (0..489_u32).zip(code.as_chunks_mut::<4>().0.iter_mut().step_by(100)) {
        *word = (Slot::User2.link_address() + at * 16).to_le_bytes();
    }
    let [rodata, data, text] = [884, 2892, 28_684].map(few_bits);
    let segments = [(0x3ffe_8000, &rodata[..]), (0x3ffe_8380, &data), (0x4010_0000, &text)];
    let builder = ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0004, &code).segments(&segments);
    let file = builder.build().unwrap();
    assert_eq!(file.len(), 239_220);
    file
}

/// Everything about an upgrade; the program is good.
pub fn check(file: &[u8]) {
    let parsed = ImageFile::parse(file).unwrap();
    let mut findings = parsed.check(&Expectations::of(Purpose::Upgrade(Slot::User2)));
    assert!(findings.next().is_none());
}

/// DOUT is made QIO, or the other way round.
pub fn toggle(file: &mut [u8]) -> Sha256Text {
    let mode = match ImageFile::parse(file).unwrap().parameters().mode {
        FlashMode::Dout => FlashMode::Qio,
        _ => FlashMode::Dout,
    };
    let patched = Patch { mode: Some(mode), ..Patch::default() }.apply(file).unwrap();
    assert_eq!(patched.after.mode, mode);
    patched.sha256
}
