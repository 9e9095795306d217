//! What was asked, so that answers can be told from each other; and which type a variable has.

use coap_spark::coap::Token;
use coap_spark::message::VariableType;
use coap_spark::message::describe::Describe;
use serde::Serialize;
use std::collections::VecDeque;

/// Requests of one side that are remembered; servers have 256 tokens.
const MAX_ASKED: usize = 256;
/// Variables whose types are remembered; devices have room for some 30 in a Describe document.
const MAX_VARIABLES: usize = 1024;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) frame: Option<u64>,
    pub(super) id: u16,
    pub(super) token: Token,
    /// The request's type, as [`super::message`] names it.
    pub(super) word: &'static str,
    /// Of the function or variable.
    pub(super) name: Vec<u8>,
}

/// The request that a message answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Answers {
    #[serde(rename = "type")]
    pub(super) word: &'static str,
    pub(super) id: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frame: Option<u64>,
    /// By which it was found.
    pub(super) by: &'static str,
}

/// One connection's requests.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    from_device: Requests,
    from_server: Requests,
    variables: Vec<(String, VariableType)>,
}

#[derive(Debug, Default)]
struct Requests(VecDeque<Asked>);

impl Dialogue {
    /// A request of the device or of the server.
    pub(super) fn ask(&mut self, from_device: bool, asked: Asked) {
        let Requests(list) = if from_device { &mut self.from_device } else { &mut self.from_server };
        if list.len() == MAX_ASKED {
            list.pop_front();
        }
        list.push_back(asked);
    }

    /// The other side's request that has this token, the latest first.
    pub(super) fn by_token(&self, from_device: bool, token: Token) -> Option<(Answers, &Asked)> {
        self.find(from_device, "token", |asked| !token.is_empty() && asked.token == token)
    }

    /// The other side's request that has this id.
    pub(super) fn by_id(&self, from_device: bool, id: u16) -> Option<(Answers, &Asked)> {
        self.find(from_device, "id", |asked| asked.id == id)
    }

    /// The other side's request that has both.
    pub(super) fn by_both(&self, from_device: bool, id: u16, token: Token) -> Option<(Answers, &Asked)> {
        self.find(from_device, "id", |asked| asked.id == id && asked.token == token)
    }

    fn find(
        &self,
        from_device: bool,
        by: &'static str,
        fits: impl Fn(&Asked) -> bool,
    ) -> Option<(Answers, &Asked)> {
        let Requests(list) = if from_device { &self.from_server } else { &self.from_device };
        let asked = list.iter().rev().find(|asked| fits(asked))?;
        Some((Answers { word: asked.word, id: asked.id, frame: asked.frame, by }, asked))
    }

    /// A description says which types the variables have.
    pub(super) fn learn(&mut self, describe: &Describe) {
        for (name, kind) in describe.variables.iter().flatten() {
            let has_room = self.variables.len() < MAX_VARIABLES;
            match self.variables.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = *kind,
                None if has_room => self.variables.push((name.clone(), *kind)),
                None => {}
            }
        }
    }

    /// The type of a variable.
    pub(super) fn variable(&self, name: &[u8]) -> Option<VariableType> {
        let known = self.variables.iter().find(|(known, _)| known.as_bytes() == name);
        known.map(|(_, kind)| *kind)
    }
}
