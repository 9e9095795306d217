//! One message as typed values.

use super::Speaker;
use super::dialogue::{Answers, Asked, Dialogue};
use super::text::put_bytes;
use coap_spark::coap::{Code, Message, ParseError, ParseOptions, Type};
use coap_spark::message::describe::{Describe, DescribeFlags, Description};
use coap_spark::message::{
    Chunk, DecodeError, Envelope, Event, FromDevice, FromServer, Goodbye, GoodbyeError, Hello, Name,
    Response, Scope, Subscribe, UpdateBegin, Value as Variable, VariableType,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// What is wrong with a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Problem {
    /// A stable word.
    pub(super) code: &'static str,
    pub(super) message: String,
    /// In the message's plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<usize>,
}

/// A message.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Reading {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<u16>,
    /// In hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    /// A stable word.
    #[serde(rename = "type")]
    pub(super) word: &'static str,
    pub(super) message: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answers: Option<Answers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<Problem>,
}

impl Reading {
    /// A message of which nothing can be said.
    pub(super) fn unreadable(word: &'static str, problem: Problem) -> Self {
        Self {
            id: None,
            token: None,
            kind: None,
            code: None,
            word,
            message: Fields::new(),
            answers: None,
            problem: Some(problem),
        }
    }
}

/// Reads a message, and remembers what it asks.
pub(super) fn read(speaker: Speaker, bytes: &[u8], frame: Option<u64>, dialogue: &mut Dialogue) -> Reading {
    let head = match Message::parse(bytes, ParseOptions::SPARK) {
        Ok(head) => head,
        Err(error) => {
            let problem =
                Problem { code: "not-coap", message: error.to_string(), offset: Some(place(&error)) };
            return Reading::unreadable("malformed", problem);
        }
    };
    let mut reading = Reading {
        id: Some(head.id()),
        token: (!head.token().is_empty()).then(|| hex::encode(head.token().as_bytes())),
        kind: Some(kind_word(head.kind())),
        code: Some(code_text(head.code())),
        word: "unknown",
        message: Fields::new(),
        answers: None,
        problem: None,
    };
    let payload_at = bytes.len() - head.payload().unwrap_or_default().len();
    let typed = match speaker {
        Speaker::Device => Envelope::<FromDevice<'_>>::decode(bytes)
            .map(|envelope| from_device(&envelope, payload_at, dialogue, &mut reading)),
        Speaker::Server => Envelope::<FromServer<'_>>::decode(bytes)
            .map(|envelope| from_server(&envelope, payload_at, dialogue, &mut reading)),
    };
    match typed {
        Ok(request) => {
            if let Some(name) = request {
                let (id, token, word) = (head.id(), head.token(), reading.word);
                dialogue.ask(speaker == Speaker::Device, Asked { frame, id, token, word, name });
            }
        }
        Err(error) => {
            reading.word = "malformed";
            put_bytes(&mut reading.message, "payload", head.payload().unwrap_or_default());
            reading.problem = Some(malformed(&error, payload_at));
        }
    }
    reading
}

/// The name in a request that wants an answer.
type Request = Option<Vec<u8>>;

const PLAIN: Request = Some(Vec::new());

fn from_device(
    envelope: &Envelope<FromDevice<'_>>,
    payload_at: usize,
    dialogue: &mut Dialogue,
    reading: &mut Reading,
) -> Request {
    let fields = &mut reading.message;
    let (word, request) = match &envelope.body {
        FromDevice::Hello(hello) => {
            put_hello(fields, hello);
            ("hello", None)
        }
        FromDevice::DescribePost { flags, payload } => {
            fields.insert("flags".to_owned(), describe_flags(*flags));
            reading.problem = put_description(fields, payload, payload_at, dialogue);
            ("describe-post", PLAIN)
        }
        FromDevice::Event(event) => {
            put_event(fields, event);
            ("event", PLAIN)
        }
        FromDevice::Subscribe(subscribe) => {
            put_subscribe(fields, subscribe);
            ("subscribe", PLAIN)
        }
        FromDevice::TimeRequest => ("time-request", PLAIN),
        FromDevice::Ping => ("ping", PLAIN),
        FromDevice::ChunkMissed(indices) => {
            fields.insert("indices".to_owned(), indices.iter().collect::<Vec<u16>>().into());
            ("chunk-missed", PLAIN)
        }
        FromDevice::UpdateDone(result) => {
            put_json(fields, "result", result);
            ("update-done", PLAIN)
        }
        FromDevice::Goodbye { no_response, goodbye } => {
            put_goodbye(fields, goodbye, *no_response);
            ("goodbye", PLAIN)
        }
        FromDevice::Response(response) => {
            return put_response(Speaker::Device, envelope, response, payload_at, dialogue, reading);
        }
        FromDevice::Ack => return put_ack(Speaker::Device, "ack", envelope, dialogue, reading),
        FromDevice::Reset => return put_ack(Speaker::Device, "reset", envelope, dialogue, reading),
        FromDevice::Unknown { code, letter } => return put_unknown(*code, *letter, reading),
        _ => return put_unknown(Code::EMPTY, 0, reading),
    };
    reading.word = word;
    request
}

fn from_server(
    envelope: &Envelope<FromServer<'_>>,
    payload_at: usize,
    dialogue: &mut Dialogue,
    reading: &mut Reading,
) -> Request {
    let fields = &mut reading.message;
    let (word, request) = match &envelope.body {
        FromServer::Hello => ("hello", None),
        FromServer::Describe { flags } => {
            if let Some(flags) = flags {
                fields.insert("flags".to_owned(), describe_flags(*flags));
            }
            ("describe", PLAIN)
        }
        FromServer::FunctionCall { name, argument } => {
            put_bytes(fields, "name", name);
            put_bytes(fields, "argument", argument);
            ("function-call", Some(name.to_vec()))
        }
        FromServer::VariableRequest { name } => {
            put_bytes(fields, "name", name);
            ("variable-request", Some(name.to_vec()))
        }
        FromServer::Event(event) => {
            put_event(fields, event);
            ("event", PLAIN)
        }
        FromServer::Signal { on } => {
            fields.insert("on".to_owned(), (*on).into());
            ("signal", PLAIN)
        }
        FromServer::Ping => ("ping", PLAIN),
        FromServer::SocketPing => ("socket-ping", None),
        FromServer::KeyChange { discard_session } => {
            fields.insert("discard_session".to_owned(), (*discard_session).into());
            ("key-change", PLAIN)
        }
        FromServer::UpdateBegin(begin) => {
            put_begin(fields, begin);
            ("update-begin", PLAIN)
        }
        FromServer::SaveBegin(begin) => {
            put_begin(fields, begin);
            ("save-begin", PLAIN)
        }
        FromServer::Chunk(chunk) => {
            reading.problem = put_chunk(fields, chunk, payload_at);
            ("chunk", PLAIN)
        }
        FromServer::UpdateDone => ("update-done", PLAIN),
        FromServer::Response(response) => {
            return put_response(Speaker::Server, envelope, response, payload_at, dialogue, reading);
        }
        FromServer::Ack => return put_ack(Speaker::Server, "ack", envelope, dialogue, reading),
        FromServer::Reset => return put_ack(Speaker::Server, "reset", envelope, dialogue, reading),
        FromServer::Unknown { code, letter } => return put_unknown(*code, *letter, reading),
        _ => return put_unknown(Code::EMPTY, 0, reading),
    };
    reading.word = word;
    request
}

fn put_unknown(code: Code, letter: u8, reading: &mut Reading) -> Request {
    reading.word = "unknown";
    if letter != 0 {
        put_bytes(&mut reading.message, "letter", &[letter]);
    }
    let message = format!("code {} with this path is no message of the protocol", code_text(code));
    reading.problem = Some(Problem { code: "unknown-message", message, offset: Some(1) });
    None
}

fn put_ack<B>(
    speaker: Speaker,
    word: &'static str,
    envelope: &Envelope<B>,
    dialogue: &Dialogue,
    reading: &mut Reading,
) -> Request {
    reading.word = word;
    reading.answers = dialogue.by_id(speaker == Speaker::Device, envelope.id).map(|(answers, _)| answers);
    None
}

/// An answer: what its payload means depends on what was asked.
fn put_response<B>(
    speaker: Speaker,
    envelope: &Envelope<B>,
    response: &Response<'_>,
    payload_at: usize,
    dialogue: &mut Dialogue,
    reading: &mut Reading,
) -> Request {
    let from_device = speaker == Speaker::Device;
    let acknowledges = envelope.kind == Type::Acknowledgement;
    // A separate answer has an id of its own, and some firmware has one where it should echo the request's.
    let both = if acknowledges { dialogue.by_both(from_device, envelope.id, envelope.token) } else { None };
    let found = both
        .or_else(|| dialogue.by_token(from_device, envelope.token))
        .or_else(|| if acknowledges { dialogue.by_id(from_device, envelope.id) } else { None });
    let (asked, name) = match found {
        Some((answers, asked)) => {
            reading.answers = Some(answers);
            (asked.word, asked.name.clone())
        }
        None => ("", Vec::new()),
    };
    if !name.is_empty() {
        put_bytes(&mut reading.message, "name", &name);
    }
    let answers_chunk = matches!(asked, "chunk" | "update-done");
    if response.is_refusal() && !answers_chunk {
        reading.word = "refusal";
        if !response.payload.is_empty() {
            put_bytes(&mut reading.message, "payload", response.payload);
        }
        return None;
    }
    let fields = &mut reading.message;
    let mut typed = |name: &str, result: Result<Value, String>, length: &'static str| match result {
        Ok(value) => {
            fields.insert(name.to_owned(), value);
        }
        Err(message) => {
            put_bytes(fields, "payload", response.payload);
            reading.problem = Some(Problem { code: length, message, offset: Some(payload_at) });
        }
    };
    const LENGTH: &str = "bad-length";
    reading.word = match asked {
        "function-call" => {
            typed(
                "result",
                response.as_function_result().map(Value::from).map_err(|e| e.to_string()),
                LENGTH,
            );
            "function-result"
        }
        "variable-request" => {
            put_value(reading, response, dialogue.variable(&name), payload_at);
            "variable-value"
        }
        "describe" => {
            reading.problem = put_description(fields, response.payload, payload_at, dialogue);
            "description"
        }
        "time-request" => {
            typed("unix_seconds", response.as_time().map(Value::from).map_err(|e| e.to_string()), LENGTH);
            "time"
        }
        // The acknowledgement itself has no payload.
        "update-begin" | "save-begin" if !response.payload.is_empty() => {
            let ready = response.as_update_ready().map(|ready| Value::from(ready.is_fast()));
            typed("fast", ready.map_err(|error| error.to_string()), LENGTH);
            "update-ready"
        }
        "chunk" => {
            fields.insert("good".to_owned(), (!response.is_refusal()).into());
            "chunk-received"
        }
        "update-done" => {
            let result = response.as_update_result();
            fields.insert("success".to_owned(), result.is_success.into());
            put_json(fields, "result", result.json);
            "update-result"
        }
        _ => {
            if !response.payload.is_empty() {
                put_bytes(fields, "payload", response.payload);
            }
            "response"
        }
    };
    // Separate and confirmable answers are acknowledged.
    (envelope.kind == Type::Confirmable).then(Vec::new)
}

/// The bytes as they are, and the value if a description has said what they are.
fn put_value(reading: &mut Reading, response: &Response<'_>, kind: Option<VariableType>, payload_at: usize) {
    let fields = &mut reading.message;
    fields.insert("raw_hex".to_owned(), hex::encode(response.payload).into());
    let Some(kind) = kind else { return };
    let word = match kind {
        VariableType::Bool => json!("bool"),
        VariableType::Int => json!("int"),
        VariableType::String => json!("string"),
        VariableType::Double => json!("double"),
        other => json!(u8::from(other)),
    };
    fields.insert("value_type".to_owned(), word);
    match response.as_value(kind) {
        Ok(Variable::Bool(value)) => drop(fields.insert("value".to_owned(), value.into())),
        Ok(Variable::Int(value)) => drop(fields.insert("value".to_owned(), value.into())),
        // JSON has no NaN and no infinity.
        Ok(Variable::Double(value)) if value.is_finite() => {
            drop(fields.insert("value".to_owned(), value.into()))
        }
        Ok(Variable::Double(value)) => drop(fields.insert("value".to_owned(), value.to_string().into())),
        Ok(Variable::String(value)) => put_bytes(fields, "value", value),
        Ok(_) => {}
        Err(error) => {
            let problem =
                Problem { code: "bad-length", message: error.to_string(), offset: Some(payload_at) };
            reading.problem = Some(problem);
        }
    }
}

fn put_description(
    fields: &mut Fields,
    payload: &[u8],
    payload_at: usize,
    dialogue: &mut Dialogue,
) -> Option<Problem> {
    let problem = |code, message| Some(Problem { code, message, offset: Some(payload_at) });
    match Description::decode(payload) {
        Ok(Description::Metrics(metrics)) => {
            let metric = |metric: coap_spark::message::describe::Metric| match metric.value {
                Ok(value) => json!({ "id": metric.id, "value": value }),
                Err(error) => json!({ "id": metric.id, "error": error }),
            };
            fields.insert("metrics".to_owned(), metrics.iter().map(metric).collect());
            None
        }
        Ok(_) => match Describe::from_json(payload) {
            Ok(describe) => {
                dialogue.learn(&describe);
                let document = serde_json::from_str(&describe.to_json()).unwrap_or_default();
                fields.insert("document".to_owned(), document);
                None
            }
            Err(error) => {
                put_bytes(fields, "payload", payload);
                let at = error.column.saturating_sub(1).min(payload.len());
                let offset = if error.line == 1 { payload_at + at } else { payload_at };
                Some(Problem { code: "bad-description", message: error.to_string(), offset: Some(offset) })
            }
        },
        Err(error) => {
            put_bytes(fields, "payload", payload);
            problem("bad-description", error.to_string())
        }
    }
}

fn put_hello(fields: &mut Fields, hello: &Hello) {
    if let Some((id, version)) = hello.product {
        fields.insert("product_id".to_owned(), id.into());
        fields.insert("product_version".to_owned(), version.into());
    }
    if let Some(flags) = hello.flags {
        use coap_spark::message::HelloFlags as F;
        let names = [
            (F::OTA_SUCCEEDED, "ota-succeeded"),
            (F::DIAGNOSTICS, "diagnostics"),
            (F::IMMEDIATE_UPDATES, "immediate-updates"),
            (F::GOODBYE, "goodbye"),
            (F::DEVICE_INITIATED_DESCRIBE, "device-initiated-describe"),
            (F::COMPRESSED_OTA, "compressed-ota"),
        ];
        let set: Vec<&str> =
            names.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
        fields.insert("flags".to_owned(), flags.0.into());
        fields.insert("flag_names".to_owned(), set.into());
    }
    if let Some(platform) = hello.platform_id {
        fields.insert("platform_id".to_owned(), platform.into());
    }
    if let Some(id) = hello.device_id {
        fields.insert("device_id".to_owned(), id.to_string().into());
    }
}

fn put_event(fields: &mut Fields, event: &Event<'_>) {
    put_name(fields, "name", &event.name);
    fields.insert("public".to_owned(), event.public.into());
    fields.insert("ttl".to_owned(), event.ttl().into());
    if let Some(data) = event.data {
        put_bytes(fields, "data", data);
    }
}

fn put_subscribe(fields: &mut Fields, subscribe: &Subscribe<'_>) {
    put_name(fields, "prefix", &subscribe.prefix);
    match subscribe.scope {
        Scope::All => drop(fields.insert("scope".to_owned(), "all".into())),
        Scope::MyDevices => drop(fields.insert("scope".to_owned(), "my-devices".into())),
        Scope::Device(id) => {
            fields.insert("scope".to_owned(), "device".into());
            fields.insert("device_id".to_owned(), id.to_string().into());
        }
        Scope::DeviceText(text) => {
            fields.insert("scope".to_owned(), "device".into());
            put_bytes(fields, "device", text);
        }
        _ => {}
    }
}

fn put_goodbye(fields: &mut Fields, goodbye: &Goodbye<'_>, no_response: bool) {
    fields.insert("no_response".to_owned(), no_response.into());
    if let Some(reason) = goodbye.cloud_reason {
        fields.insert("cloud_reason".to_owned(), reason.to_string().into());
    }
    if let Some(reason) = goodbye.reset_reason {
        fields.insert("reset_reason".to_owned(), reason.to_string().into());
    }
    if let Some(seconds) = goodbye.sleep_seconds {
        fields.insert("sleep_seconds".to_owned(), seconds.into());
    }
    if let Some(reason) = goodbye.network_reason {
        fields.insert("network_reason".to_owned(), reason.to_string().into());
    }
    if goodbye.other_flags != 0 {
        fields.insert("other_flags".to_owned(), goodbye.other_flags.into());
        fields.insert("rest_hex".to_owned(), hex::encode(goodbye.rest).into());
    }
}

fn put_begin(fields: &mut Fields, begin: &UpdateBegin) {
    fields.insert("flags".to_owned(), begin.flags.into());
    fields.insert("fast".to_owned(), (begin.flags & 1 != 0).into());
    fields.insert("chunk_size".to_owned(), begin.chunk_size.into());
    fields.insert("file_length".to_owned(), begin.file_length.into());
    fields.insert("store".to_owned(), begin.store.0.into());
    fields.insert("address".to_owned(), begin.address.into());
}

fn put_chunk(fields: &mut Fields, chunk: &Chunk<'_>, payload_at: usize) -> Option<Problem> {
    if let Some(index) = chunk.index {
        fields.insert("index".to_owned(), index.into());
    }
    fields.insert("crc32".to_owned(), format!("{:08x}", chunk.crc).into());
    fields.insert("data_length".to_owned(), chunk.data.len().into());
    let is_good = spark_ota::crc32(chunk.data) == chunk.crc;
    fields.insert("good".to_owned(), is_good.into());
    (!is_good).then(|| Problem {
        code: "bad-crc",
        message: "the chunk's CRC is not that of its data".to_owned(),
        offset: Some(payload_at),
    })
}

fn put_name(fields: &mut Fields, member: &str, name: &Name<'_>) {
    put_bytes(fields, member, &name.bytes().collect::<Vec<u8>>());
}

/// JSON as it is, other bytes as bytes, nothing for nothing.
fn put_json(fields: &mut Fields, name: &str, bytes: &[u8]) {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => drop(fields.insert(name.to_owned(), value)),
        Err(_) if bytes.is_empty() => {}
        Err(_) => put_bytes(fields, name, bytes),
    }
}

fn describe_flags(flags: DescribeFlags) -> Value {
    flags.0.into()
}

const fn kind_word(kind: Type) -> &'static str {
    match kind {
        Type::Confirmable => "con",
        Type::NonConfirmable => "non",
        Type::Acknowledgement => "ack",
        Type::Reset => "rst",
    }
}

fn code_text(code: Code) -> String {
    format!("{}.{:02}", code.class(), code.detail())
}

fn malformed(error: &DecodeError, payload_at: usize) -> Problem {
    let offset = match error {
        DecodeError::Coap(error) => place(error),
        DecodeError::Goodbye(
            GoodbyeError::Truncated { offset, .. } | GoodbyeError::Overflow { offset, .. },
        ) => payload_at + offset,
        _ => payload_at,
    };
    Problem { code: "malformed", message: crate::exit::chain(error), offset: Some(offset) }
}

/// Where a message stops being CoAP.
const fn place(error: &ParseError) -> usize {
    match error {
        ParseError::Truncated { available, .. } => *available,
        ParseError::EmptyNotEmpty { .. } => 4,
        ParseError::ReservedNibble { offset }
        | ParseError::OptionTruncated { offset, .. }
        | ParseError::OptionNumberTooLarge { offset }
        | ParseError::BareMarker { offset } => *offset,
        _ => 0,
    }
}

/// What can be read of a message whose first bytes are garbled.
pub(super) fn garbled(plaintext: &[u8]) -> Reading {
    let message = "the frame before it is not in the capture, so that its first 16 bytes cannot be decrypted";
    let problem = Problem { code: "garbled-start", message: message.to_owned(), offset: Some(0) };
    let mut reading = Reading::unreadable("garbled", problem);
    if let Some(tail) = plaintext.get(super::frames::BLOCK..).filter(|tail| !tail.is_empty()) {
        put_bytes(&mut reading.message, "tail", tail);
    }
    reading
}
