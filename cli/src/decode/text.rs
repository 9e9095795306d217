//! Text that peers chose, made harmless for terminals.

use serde_json::{Map, Value};

/// Whether a terminal, or a person reading, could be misled: control characters and those that change the direction of text.
fn is_tricky(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// One line of JSON in which every such character is escaped. They occur in strings only.
pub(super) fn json_line(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if is_tricky(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            line.push(c);
        }
    }
    line
}

/// Bytes as text where they are text, else as lower-case hex in a member `NAME_hex`.
pub(super) fn put_bytes(fields: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match core::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c| is_tricky(c) && !matches!(c, '\n' | '\r' | '\t')) => {
            fields.insert(name.to_owned(), text.into());
        }
        _ => {
            fields.insert(format!("{name}_hex"), hex::encode(bytes).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_character_that_a_terminal_obeys_leaves() {
        let value = json!({ "a": "\u{1b}[31m\u{9b}2J\u{7f}\u{202e}\n\"é" });
        let line = json_line(&value);
        assert_eq!(line, r#"{"a":"\u001b[31m\u009b2J\u007f\u202e\n\"é"}"#);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn bytes_are_text_only_if_a_person_can_read_them() {
        let mut fields = Map::new();
        put_bytes(&mut fields, "a", "21.5 °C\n".as_bytes());
        put_bytes(&mut fields, "b", b"\x1b[2J");
        put_bytes(&mut fields, "c", &[0xff]);
        assert_eq!(Value::from(fields), json!({ "a": "21.5 °C\n", "b_hex": "1b5b324a", "c_hex": "ff" }));
    }
}
