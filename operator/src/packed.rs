//! JSON that is kept for long and read seldom.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

/// A value as compressed JSON. Policies repeat themselves a hundred times, and as
/// [`Value`](serde_json::Value)s take ten times their text.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed(Arc<[u8]>);

/// Little slower than the fastest, and almost as small as the smallest.
const LEVEL: u8 = 6;

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} bytes)", self.0.len())
    }
}

impl Packed {
    /// Packs a value whose maps have texts for keys.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        // Serialising plain structs with string keys cannot fail.
        let json = serde_json::to_vec(value).unwrap_or_default();
        Self(miniz_oxide::deflate::compress_to_vec(&json, LEVEL).into())
    }

    /// The value. There is always one: what is read here was written here.
    #[must_use]
    pub fn unpack<T: DeserializeOwned>(&self) -> Option<T> {
        let json = miniz_oxide::inflate::decompress_to_vec(&self.0).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_packed_comes_out_again_and_is_small() {
        let rule = json!({"name": "shop", "numbers": [1, -2, 0.5, null, true], "text": "\u{20ac}"});
        let value = json!({"rules": vec![rule; 100]});
        let packed = Packed::of(&value);
        assert_eq!(packed.unpack::<Value>(), Some(value));
        assert!(packed.0.len() < 500, "{packed:?}");
    }
}
