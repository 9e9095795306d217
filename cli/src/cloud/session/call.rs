//! What the owner asks a device, and how the answer finds who asked.

use super::{Phase, Session};
use coap_spark::connection::{Answers, RequestKind, SendError, Waiting};
use coap_spark::message::describe::Describe;
use coap_spark::message::{FromDevice, FromServer, Value, VariableType};
use core::time::Duration;

/// A call waits so long for those before it. Callers wait longer than that and the device's answer together.
const QUEUE_PATIENCE: Duration = Duration::from_secs(20);

/// Who asked; the caller's own number.
pub type Ticket = u64;

/// Something to ask a device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Call {
    /// Call a function.
    Function {
        /// Its name.
        name: String,
        /// Its argument.
        argument: String,
    },
    /// Read a variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// Begin or end the light show by which a device is found.
    Signal {
        /// Begin.
        on: bool,
    },
    /// Is it there?
    Ping,
    /// What is it, and what is on it?
    Describe,
}

/// What a device answered.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// What the function returned.
    Returned(i32),
    /// The variable's value.
    Value(VariableValue),
    /// It did as it was told.
    Done,
    /// Its description.
    Description(Describe),
}

/// The value of a variable.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum VariableValue {
    /// Truth.
    Bool(bool),
    /// Integer.
    Int(i32),
    /// Text.
    Text(String),
    /// Floating point.
    Double(f64),
    /// The device did not say what it is.
    Bytes(Vec<u8>),
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The device is not connected, or has gone.
    #[error("the device is not connected")]
    Offline,
    /// The device has no such function or variable.
    #[error("the device has no {what} {name}")]
    NoSuch {
        /// Function or variable.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It takes a firmware update and nothing else.
    #[error("the device is being updated")]
    Updating,
    /// As many questions as there is room for wait for their answers.
    #[error("too many requests wait for this device")]
    Busy,
    /// The device would cut or misread it.
    #[error("{0}")]
    TooLong(String),
    /// The device refused.
    #[error("the device refused with code {}.{:02}", code >> 5, code & 0x1f)]
    Refused {
        /// The code byte.
        code: u8,
    },
    /// No answer came.
    #[error("the device did not answer in time")]
    TimedOut,
    /// The answer was none.
    #[error("the device's answer cannot be read: {0}")]
    Malformed(String),
}

/// A call that waits for those before it.
#[derive(Debug)]
pub(super) struct Queued {
    ticket: Ticket,
    call: Call,
    deadline: Duration,
}

/// A call that was sent.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    id: u16,
    call: Call,
}

impl Session {
    /// Asks the device. The answer comes by [`Session::poll_answer`] with this ticket, an error at once. What cannot be sent
    /// in time is not sent later: nobody waits for it any more.
    ///
    /// # Errors
    /// [`CallError`]; nothing was sent.
    pub fn call(&mut self, now: Duration, ticket: Ticket, call: Call) -> Result<(), CallError> {
        match self.phase {
            Phase::Start => return Err(CallError::Offline),
            Phase::Updating(_) | Phase::Updated { .. } => return Err(CallError::Updating),
            _ => {}
        }
        if self.calls.len() + self.describe_tickets.len() >= super::MAX_WAITING {
            return Err(CallError::Busy);
        }
        if call == Call::Describe {
            self.describe_tickets.push(ticket);
            if matches!(self.phase, Phase::Idle { .. }) {
                self.phase = Phase::Ask;
            }
            return Ok(());
        }
        self.calls.push_back(Queued { ticket, call, deadline: now + QUEUE_PATIENCE });
        Ok(())
    }

    /// Whoever asked has gone: what was not sent yet is not sent.
    pub fn forget_call(&mut self, ticket: Ticket) {
        self.calls.retain(|queued| queued.ticket != ticket);
        self.describe_tickets.retain(|waiting| *waiting != ticket);
    }

    /// Firmware up to 0.7 reads a wild pointer for a variable that it does not have.
    fn is_there(&self, call: &Call) -> Result<(), CallError> {
        let no_such = |what, name: &String| Err(CallError::NoSuch { what, name: name.clone() });
        match call {
            Call::Variable { name } => match &self.known.variables {
                Some(variables) if variables.iter().all(|(known, _)| known != name) => {
                    no_such("variable", name)
                }
                _ => Ok(()),
            },
            Call::Function { name, .. } => match &self.known.functions {
                Some(functions) if !functions.contains(name) => no_such("function", name),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The next answer, and to whom.
    pub fn poll_answer(&mut self) -> Option<(Ticket, Result<Answer, CallError>)> {
        self.answers.pop_front()
    }

    /// Seals the next call that waits, if there is room for one more.
    pub(super) fn seal_call(&mut self, now: Duration, out: &mut [u8]) -> Result<Option<usize>, SendError> {
        // An acknowledgement of a ping may come without its id, so one at a time is asked of a device.
        if self.pending.is_some() {
            return Ok(None);
        }
        while let Some(Queued { ticket, call, deadline }) = self.calls.pop_front() {
            if let Err(error) = self.is_there(&call) {
                self.answers.push_back((ticket, Err(error)));
                continue;
            }
            let body = match &call {
                Call::Function { name, argument } => {
                    FromServer::FunctionCall { name: name.as_bytes(), argument: argument.as_bytes() }
                }
                Call::Variable { name } => FromServer::VariableRequest { name: name.as_bytes() },
                Call::Signal { on } => FromServer::Signal { on: *on },
                Call::Ping => FromServer::Ping,
                Call::Describe => continue,
            };
            match self.connection.request(now, body, out) {
                Ok(sent) => {
                    let (id, len) = (sent.id, sent.bytes.len());
                    self.pending = Some(Pending { ticket, id, call });
                    return Ok(Some(len));
                }
                Err(SendError::TooManyRequests { .. } | SendError::Busy { .. }) => {
                    self.calls.push_front(Queued { ticket, call, deadline });
                    return Ok(None);
                }
                Err(error @ (SendError::Encode(_) | SendError::FrameTooLong { .. })) => {
                    self.answers.push_back((ticket, Err(CallError::TooLong(error.to_string()))));
                }
                Err(error) => {
                    self.answers.push_back((ticket, Err(CallError::Offline)));
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// A message answers something; the caller's if it was a call.
    pub(super) fn take_answer(&mut self, answers: Answers<RequestKind>, body: &FromDevice<'_>) {
        let Some(pending) = &self.pending else { return };
        if pending.id != answers.id {
            return;
        }
        let refused = match body {
            FromDevice::Response(response) if response.is_refusal() => Some(response.code),
            _ => None,
        };
        // An argument that is too long is refused in the acknowledgement.
        if !answers.is_answer && refused.is_none() {
            return;
        }
        let Some(Pending { ticket, call, .. }) = self.pending.take() else { return };
        let answer = match (&call, refused) {
            (Call::Variable { name }, Some(code)) if code == coap_spark::coap::Code::NOT_FOUND => {
                Err(CallError::NoSuch { what: "variable", name: name.clone() })
            }
            (Call::Function { name, .. }, Some(code)) if code == coap_spark::coap::Code::NOT_FOUND => {
                Err(CallError::NoSuch { what: "function", name: name.clone() })
            }
            (_, Some(code)) => Err(CallError::Refused { code: code.0 }),
            (Call::Function { .. }, None) => returned(body),
            (Call::Variable { name }, None) => self.value(name, body),
            (_, None) => Ok(Answer::Done),
        };
        self.answers.push_back((ticket, answer));
    }

    fn value(&self, name: &str, body: &FromDevice<'_>) -> Result<Answer, CallError> {
        let FromDevice::Response(response) = body else {
            return Err(CallError::Malformed("a variable's answer has a value".to_owned()));
        };
        let known = self.known.variables.iter().flatten().find(|(known, _)| known == name);
        let Some((_, kind)) = known else {
            return Ok(Answer::Value(VariableValue::Bytes(response.payload.to_vec())));
        };
        decode(*kind, response.payload).map(Answer::Value)
    }

    /// When a call that waits is given up.
    pub(super) fn call_deadline(&self) -> Option<Duration> {
        self.calls.front().map(|queued| queued.deadline)
    }

    /// Calls that waited too long for those before them.
    pub(super) fn expire_waiting_calls(&mut self, now: Duration) {
        while let Some(queued) = self.calls.pop_front_if(|queued| now >= queued.deadline) {
            self.answers.push_back((queued.ticket, Err(CallError::TimedOut)));
        }
    }

    /// A request that got no answer.
    pub(super) fn expire_call(&mut self, waiting: &Waiting<RequestKind>) {
        if let Some(pending) = self.pending.take_if(|pending| pending.id == waiting.id) {
            self.answers.push_back((pending.ticket, Err(CallError::TimedOut)));
        }
    }

    /// Whoever waits for a Describe gets this.
    pub(super) fn answer_describe(&mut self, answer: &Result<Describe, CallError>) {
        for ticket in core::mem::take(&mut self.describe_tickets) {
            self.answers.push_back((ticket, answer.clone().map(Answer::Description)));
        }
    }

    /// Nobody is to wait for a connection that is gone, or for a device that takes an update.
    pub(super) fn refuse_calls(&mut self, error: &CallError) {
        let sent = self.pending.take().map(|pending| pending.ticket);
        let waiting = self.calls.drain(..).map(|queued| queued.ticket);
        let tickets: Vec<Ticket> = sent.into_iter().chain(waiting).collect();
        self.answers.extend(tickets.into_iter().map(|ticket| (ticket, Err(error.clone()))));
        self.answer_describe(&Err(error.clone()));
    }
}

fn returned(body: &FromDevice<'_>) -> Result<Answer, CallError> {
    match body {
        FromDevice::Response(response) => match <[u8; 4]>::try_from(response.payload) {
            Ok(bytes) => Ok(Answer::Returned(i32::from_be_bytes(bytes))),
            Err(_) => {
                let found = response.payload.len();
                Err(CallError::Malformed(format!("a function returns 4 bytes, these are {found}")))
            }
        },
        _ => Err(CallError::Malformed("a function's answer has a value".to_owned())),
    }
}

fn decode(kind: VariableType, payload: &[u8]) -> Result<VariableValue, CallError> {
    let value = Value::decode(kind, payload).map_err(|error| CallError::Malformed(error.to_string()))?;
    Ok(match value {
        Value::Bool(value) => VariableValue::Bool(value),
        Value::Int(value) => VariableValue::Int(value),
        Value::Double(value) => VariableValue::Double(value),
        Value::String(text) => VariableValue::Text(String::from_utf8_lossy(text).into_owned()),
        _ => VariableValue::Bytes(payload.to_vec()),
    })
}
