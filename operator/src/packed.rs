//! JSON that is kept for long and read seldom.

use std::sync::Arc;

use miniz_oxide::{
    deflate::core::{
        CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
    },
    inflate::{
        TINFLStatus,
        core::{
            DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        },
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// A value as compressed JSON. Policies repeat themselves a hundred times, and as
/// [`Value`](serde_json::Value)s take ten times their text; rings and ledgers repeat each
/// other, so each is packed as what comes after [`USUAL`].
#[derive(Clone, PartialEq, Eq)]
pub struct Packed {
    /// How long the JSON is.
    length: u32,
    bytes: Arc<[u8]>,
}

/// What all of them have in common, to the letter where it can be: the closer it comes,
/// the smaller is what is kept. Nothing else depends on what it says.
const USUAL: &[u8] = include_bytes!("packed/usual.json");

/// Little slower than the fastest, and almost as small as the smallest.
const LEVEL: i32 = 6;

/// No header, and the whole window.
const WINDOW: i32 = -15;

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} bytes of {})", self.bytes.len(), self.length)
    }
}

impl Packed {
    /// Packs a value whose maps have texts for keys.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        Self::behind(None, value)
    }

    /// The same of one that repeats what is packed already.
    #[must_use]
    pub fn behind(before: Option<&Self>, value: &impl Serialize) -> Self {
        // Serialising plain structs with string keys cannot fail.
        let json = serde_json::to_vec(value).unwrap_or_default();
        Self::of_json(before, &json)
    }

    /// The value. There is always one: what is read here was written here.
    #[must_use]
    pub fn unpack<T: DeserializeOwned>(&self) -> Option<T> {
        self.unpack_behind(None)
    }

    /// The value that was packed behind another one.
    #[must_use]
    pub fn unpack_behind<T: DeserializeOwned>(&self, before: Option<&Self>) -> Option<T> {
        let (text, start) = self.text(before)?;
        serde_json::from_slice(text.get(start..)?).ok()
    }

    /// The same, packed behind another one than before.
    #[must_use]
    pub fn moved(&self, from: Option<&Self>, to: Option<&Self>) -> Option<Self> {
        let (text, start) = self.text(from)?;
        Some(Self::of_json(to, text.get(start..)?))
    }

    /// Whether it is not only the same but takes up the same memory.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes)
    }

    /// Takes up the same memory as another one that is the same.
    pub fn share(&mut self, other: &Self) {
        if self == other {
            self.bytes = Arc::clone(&other.bytes);
        }
    }

    fn of_json(before: Option<&Self>, json: &[u8]) -> Self {
        let mut compressor =
            CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, WINDOW, 0));
        // What that comes to is the same each time, and ends with a whole byte.
        let before = before_text(before);
        compress_to_output(&mut compressor, &before, TDEFLFlush::Sync, |_| true);
        let mut bytes = Vec::with_capacity(json.len() / 4);
        compress_to_output(&mut compressor, json, TDEFLFlush::Finish, |more| {
            bytes.extend_from_slice(more);
            true
        });
        Self { length: u32::try_from(json.len()).unwrap_or(u32::MAX), bytes: bytes.into() }
    }

    /// The JSON with what comes before it, and where it starts.
    fn text(&self, before: Option<&Self>) -> Option<(Vec<u8>, usize)> {
        let mut text = before_text(before);
        let start = text.len();
        text.resize(start + usize::try_from(self.length).ok()?, 0);
        let (mut inflater, flags) =
            (DecompressorOxide::new(), TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
        let (status, ..) = decompress(&mut inflater, &self.bytes, &mut text, start, flags);
        (status == TINFLStatus::Done).then_some((text, start))
    }
}

/// What is common to all, and then what was packed before.
fn before_text(before: Option<&Packed>) -> Vec<u8> {
    let before = before.and_then(|before| before.text(None));
    before.map_or_else(|| USUAL.to_vec(), |(text, _)| text)
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
        assert!(packed.bytes.len() < 500, "{packed:?}");
    }

    #[test]
    fn of_what_is_usual_next_to_nothing_is_kept() {
        let usual: Value = serde_json::from_slice(USUAL).unwrap();
        let packed = Packed::of_json(None, USUAL.trim_ascii());
        assert_eq!(packed.unpack(), Some(usual));
        assert!(packed.bytes.len() < 60, "{packed:?}");
        let names: Vec<String> = (0..500).map(|n| format!("{}", n * n * 7919 % 10007)).collect();
        let (first, second) = (Packed::of(&names), json!({"names": names}));
        let behind = Packed::behind(Some(&first), &second);
        assert_eq!(behind.unpack_behind(Some(&first)), Some(second.clone()));
        let alone = behind.moved(Some(&first), None).unwrap();
        assert!(alone == Packed::of(&second) && !alone.is(&Packed::of(&second)));
        assert!(behind.bytes.len() * 4 < alone.bytes.len(), "{behind:?} {alone:?}");
        let mut again = Packed::of(&second);
        again.share(&first);
        assert!(!again.is(&first));
        again.share(&alone);
        assert!(again.is(&alone));
        for small in [json!(null), json!(""), json!(7)] {
            assert_eq!(Packed::of(&small).unpack(), Some(small));
        }
    }
}
