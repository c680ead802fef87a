//! Digests of JSON: equal if and only if two values are.

use std::io;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a JSON value, whatever the order of its objects' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A part of a policy, as much of it as decisions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Tells it from any other.
    pub digest: Digest,
    /// The bytes of its JSON.
    pub bytes: usize,
}

impl Part {
    /// Of a value.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        let mut sink = Sink { hash: Sha256::new(), bytes: 0 };
        sink.value(value);
        Self { digest: Digest(sink.hash.finalize().into()), bytes: sink.bytes }
    }

    /// Of a value with a list: of its `frame`, which is the value with that list
    /// empty, and of the `parts` that the list holds.
    #[must_use]
    pub fn with(frame: Self, parts: impl IntoIterator<Item = Self>) -> Self {
        let mut hash = Sha256::new();
        hash.update(frame.digest.0);
        let mut bytes = frame.bytes;
        for (index, part) in parts.into_iter().enumerate() {
            hash.update(part.digest.0);
            bytes += part.bytes + usize::from(index > 0);
        }
        Self { digest: Digest(hash.finalize().into()), bytes }
    }

    /// Of several values.
    #[must_use]
    pub fn list(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::with(Self::of(&Value::Array(Vec::new())), parts)
    }
}

/// Takes in a value's JSON with the keys of objects in order.
struct Sink {
    hash: Sha256,
    bytes: usize,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&mut self, text: &str) {
        self.hash.update(text.as_bytes());
        self.bytes += text.len();
    }

    /// What holds no other values, or the key of an object.
    fn scalar(&mut self, scalar: &impl Serialize) {
        // Neither writing to a hash nor serialising a scalar can fail.
        let written = serde_json::to_writer(self, scalar);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                self.text("[");
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.text(",");
                    }
                    self.value(item);
                }
                self.text("]");
            }
            Value::Object(fields) => {
                let mut names: Vec<&String> = fields.keys().collect();
                names.sort_unstable();
                self.text("{");
                for (index, name) in names.into_iter().enumerate() {
                    if index > 0 {
                        self.text(",");
                    }
                    self.scalar(name);
                    self.text(":");
                    self.value(&fields[name]);
                }
                self.text("}");
            }
            scalar => self.scalar(scalar),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_does_not_count_and_everything_else_does() {
        let value = json!({"b": [1, "x\n"], "a": {"c": null}});
        let same: Value = serde_json::from_str(r#"{"a":{"c":null},"b":[1,"x\n"]}"#).unwrap();
        assert_eq!(Part::of(&value), Part::of(&same));
        assert_eq!(Part::of(&value).bytes, value.to_string().len());
        for other in [
            json!({"b": [1, "x\n"], "a": {}}),
            json!({"b": ["x\n", 1], "a": {"c": null}}),
            json!({"b": ["1", "x\n"], "a": {"c": null}}),
            json!({"b": [1, "x\n"], "a": [{"c": null}]}),
        ] {
            assert_ne!(Part::of(&value).digest, Part::of(&other).digest, "{other}");
        }
    }

    #[test]
    fn parts_keep_their_places() {
        let [a, b] = [json!("a"), json!("b")].map(|value| Part::of(&value));
        let frame = Part::of(&json!({"list": []}));
        assert_eq!(Part::with(frame, [a, b]).bytes, json!({"list": ["a", "b"]}).to_string().len());
        assert_ne!(Part::with(frame, [a, b]).digest, Part::with(frame, [b, a]).digest);
        assert_ne!(Part::with(frame, [a]).digest, Part::with(frame, [a, a]).digest);
    }
}
