//! Our half of the check against coap-packet: see `run`. One JSON object a line in both directions.
//!
//! The expected fields of a typed message are written down here by hand, they do not come out of our own decoder.

mod typed;

use coap_spark::coap::{Code, Message, ParseOptions, Token, Type, Writer};
use coap_spark::message::{Envelope, FromServer};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{self, BufRead, Write};

const KINDS: [Type; 4] = [Type::Confirmable, Type::NonConfirmable, Type::Acknowledgement, Type::Reset];

/// The fields of one message, as both programs print them.
#[derive(Clone, PartialEq, Debug)]
struct Fields {
    kind: Type,
    code: Code,
    id: u16,
    token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Fields {
    fn of(message: &Message<'_>) -> Self {
        Self {
            kind: message.kind(),
            code: message.code(),
            id: message.id(),
            token: message.token().as_bytes().to_vec(),
            options: message.options().map(|option| (option.number, option.value.to_vec())).collect(),
            payload: message.payload().unwrap_or_default().to_vec(),
        }
    }

    fn write(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut out = vec![0; 2048];
        let mut writer = Writer::new(&mut out, self.kind, self.code, self.id, Token::new(&self.token)?)?;
        for (number, value) in &self.options {
            writer.option(*number, value)?;
        }
        Ok(writer.payload(&self.payload)?.to_vec())
    }

    fn to_json(&self) -> Value {
        let options = self.options.iter().map(|(number, value)| json!([number, hex::encode(value)]));
        json!({
            "kind": self.kind as u8,
            "code": self.code.0,
            "id": self.id,
            "token": hex::encode(&self.token),
            "options": options.collect::<Vec<_>>(),
            "payload": hex::encode(&self.payload),
        })
    }
}

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn word(&mut self) -> u16 {
        self.below(65536) as u16
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Any message: token of 0 to 8 bytes, options with every form of delta and length, every code.
fn raw(random: &mut Random) -> Fields {
    let (kind, code, id) = (random.pick(&KINDS), Code(random.byte()), random.word());
    if code == Code::EMPTY {
        return Fields { kind, code, id, token: vec![], options: vec![], payload: vec![] };
    }
    let mut number = 0_u16;
    let mut options = Vec::new();
    for _ in 0..random.below(6) {
        let delta = match random.below(4) {
            0 | 1 => random.below(13),
            2 => 13 + random.below(256),
            _ => 269 + random.below(15_000),
        };
        number = number.saturating_add(delta as u16);
        let len = match random.below(8) {
            0..5 => random.below(13),
            5 | 6 => 13 + random.below(256),
            _ => 269 + random.below(40),
        };
        options.push((number, random.bytes(len)));
    }
    let (token, payload) = (random.below(9), [0, random.below(20), random.below(300)]);
    let (token, payload) = (random.bytes(token), random.pick(&payload));
    Fields { kind, code, id, token, options, payload: random.bytes(payload) }
}

fn print(source: &str, bytes: &[u8], expected: Option<&Fields>) -> io::Result<()> {
    let expected = expected.map_or(Value::Null, Fields::to_json);
    let line = json!({ "source": source, "hex": hex::encode(bytes), "expected": expected });
    writeln!(io::stdout().lock(), "{line}")
}

/// `count` messages, and some of them cut everywhere.
fn generate(count: usize, seed: u64) -> Result<(), Box<dyn Error>> {
    let mut random = Random(seed);
    for i in 0..count {
        let (source, bytes, fields) = match i % 4 {
            0 | 1 => {
                let fields = raw(&mut random);
                ("writer", fields.write()?, fields)
            }
            2 => {
                let (bytes, fields) = typed::from_device(&mut random)?;
                ("device", bytes, fields)
            }
            _ => {
                let (bytes, fields) = typed::from_server(&mut random)?;
                ("server", bytes, fields)
            }
        };
        print(source, &bytes, Some(&fields))?;
        for end in (0..bytes.len()).filter(|_| i % 100 < 4) {
            let cut = Message::parse(&bytes[..end], ParseOptions::STRICT);
            print("cut", &bytes[..end], cut.as_ref().map(Fields::of).as_ref().ok())?;
        }
    }
    Ok(())
}

fn text(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| hex::decode(text).ok()).unwrap_or_default()
}

fn fields(value: &Value) -> Option<Fields> {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let option = |pair: &Value| Some((number(&pair[0])?, text(&pair[1])));
    Some(Fields {
        kind: *KINDS.get(usize::from(number(&value["kind"])?))?,
        code: Code(u8::try_from(number(&value["code"])?).ok()?),
        id: number(&value["id"])?,
        token: text(&value["token"]),
        options: value["options"].as_array()?.iter().map(option).collect::<Option<_>>()?,
        payload: text(&value["payload"]),
    })
}

/// Messages of coap-packet: we read the same, write the same bytes, and see the same typed message.
fn decode() -> Result<(), Box<dyn Error>> {
    let (mut raw, mut typed) = (0, 0);
    for line in io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let (bytes, expected) = (text(&line["hex"]), fields(&line["expected"]).ok_or("a line of peer.mjs")?);
        let message =
            Message::parse(&bytes, ParseOptions::STRICT).map_err(|error| format!("{error}: {line}"))?;
        assert_eq!(Fields::of(&message), expected, "{line}");
        assert_eq!(hex::encode(expected.write()?), hex::encode(&bytes), "the coding is unique: {line}");
        if line["typed"].is_null() {
            raw += 1;
        } else {
            typed::check(&line["typed"], &bytes).map_err(|what| format!("{what}: {line}"))?;
            typed += 1;
        }
    }
    assert!(raw > 0 && typed > 0);
    println!("we read {raw} raw and {typed} typed messages of coap-packet alike and write the same bytes");
    Ok(())
}

/// Messages that coap-packet treats in its own way.
fn quirks() -> Result<(), Box<dyn Error>> {
    let fields = Fields {
        kind: Type::Acknowledgement,
        code: Code::EMPTY,
        id: 0,
        token: vec![],
        options: vec![],
        payload: vec![],
    };
    let show = |quirk: &str, bytes: &[u8], expected: Value| {
        println!("{}", json!({ "quirk": quirk, "hex": hex::encode(bytes), "expected": expected }));
    };
    show("id-0", &fields.write()?, fields.to_json());
    let token = [0x61, 0x00, 0x12, 0x34, 0x00];
    assert!(Message::parse(&token, ParseOptions::STRICT).is_err());
    assert!(matches!(Envelope::<FromServer<'_>>::decode(&token)?.body, FromServer::Ack));
    show("empty-with-token", &token, Value::Null);
    let marker = [0x50, 0x02, 0x12, 0x34, 0xb1, b'e', 0xff];
    assert!(Message::parse(&marker, ParseOptions::STRICT).is_err());
    assert_eq!(Message::parse(&marker, ParseOptions::SPARK)?.payload(), Some(&[][..]));
    show("bare-marker", &marker, Value::Null);
    let cut = [0x40, 0x02, 0x12, 0x34, 0xb5, b'e'];
    assert!(Message::parse(&cut, ParseOptions::SPARK).is_err());
    show("cut-option", &cut, Value::Null);
    // What the Brewskey server means as 4.00.
    let refusal = [0x61, 0x04, 0x12, 0x34, 0x07];
    let body = Envelope::<FromServer<'_>>::decode(&refusal)?.body;
    assert!(body.is_refusal(), "{body:?}");
    show("code-04", &refusal, Value::Null);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate", count, seed] => generate(count.parse()?, seed.parse()?),
        ["decode"] => decode(),
        ["quirks"] => quirks(),
        _ => Err("generate COUNT SEED | decode | quirks".into()),
    }
}
