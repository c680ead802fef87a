//! A report in the format that was asked for.

use serde::Serialize;
use serde_json::Value;

use crate::{
    error::Error,
    flags::Format,
    screen::Screen,
    text::{Line, is_unfit},
};

/// Shows a report: `lines` makes those for people, with all there is if it is asked so.
///
/// # Errors
/// If it cannot be written.
pub fn show<T: Serialize>(
    screen: &Screen,
    format: Format,
    report: &T,
    lines: impl FnOnce(bool) -> Vec<Line>,
) -> Result<(), Error> {
    match format {
        Format::Table | Format::Wide => screen.lines(&lines(format == Format::Wide)),
        Format::Json => screen.raw(&json(report)?),
        Format::Yaml => screen.raw(&yaml(report)?),
    }
}

fn value<T: Serialize>(report: &T) -> Result<Value, Error> {
    serde_json::to_value(report)
        .map_err(|error| Error::Failed(format!("the report cannot be written as JSON: {error}")))
}

/// JSON escapes some of what a terminal obeys; the rest of it stands in texts, too, so
/// it may be escaped there.
fn json<T: Serialize>(report: &T) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(&value(report)?)
        .map_err(|error| Error::Failed(format!("the report cannot be written as JSON: {error}")))?;
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && is_unfit(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    Ok(escaped + "\n")
}

fn yaml<T: Serialize>(report: &T) -> Result<String, Error> {
    let mut value = value(report)?;
    clean_texts(&mut value);
    serde_saphyr::to_string(&value)
        .map_err(|error| Error::Failed(format!("the report cannot be written as YAML: {error}")))
}

/// Line breaks stay, as those of keys in PEM.
fn clean_texts(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.chars().any(|c| c != '\n' && is_unfit(c)) {
                let lines = text.split('\n').map(crate::text::clean);
                *text = lines.collect::<Vec<_>>().join("\n");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(clean_texts),
        Value::Object(fields) => fields.values_mut().for_each(clean_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_get_it_whole_and_terminals_get_nothing_to_obey() {
        let report = json!({"a": "x\u{1b}[2J\u{9b}\u{202e}\ny", "b": [1, null]});
        let text = json(&report).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), report);
        assert!(!text.chars().any(|c| c != '\n' && is_unfit(c)), "{text:?}");
        let text = yaml(&report).unwrap();
        assert!(!text.chars().any(|c| c != '\n' && is_unfit(c)), "{text:?}");
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["a"], "x\\u{1b}[2J\\u{9b}\\u{202e}\ny");
    }
}
