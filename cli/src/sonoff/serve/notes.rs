//! What is said of the server, not of a device: lines for a person, objects with `--json`.

use crate::exit::Failure;
use crate::ui::{Ui, print};
use core::fmt::Display;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub(super) struct Notes {
    ui: Ui,
    json: bool,
}

impl Notes {
    pub(super) const fn new(json: bool) -> Self {
        Self { ui: Ui::new(json), json }
    }

    /// For a person only.
    pub(super) fn line(&self, text: impl Display) {
        self.ui.line(&text.to_string());
    }

    fn object(&self, value: &Value) -> Result<(), Failure> {
        if self.json { print(value) } else { Ok(()) }
    }

    /// Something that may be wrong.
    pub(super) fn warning(&self, text: impl Display) -> Result<(), Failure> {
        self.line(format_args!("warning: {text}"));
        self.object(&json!({"event": "warning", "text": text.to_string()}))
    }

    /// Something that is better known.
    pub(super) fn hint(&self, text: impl Display) -> Result<(), Failure> {
        self.line(&text);
        self.object(&json!({"event": "hint", "text": text.to_string()}))
    }
}
