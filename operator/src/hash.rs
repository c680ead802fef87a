//! Hashes by which something is found among thousands, where the text would be too much to
//! keep.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Half of a text's hash. Two may have the same: who must not take one for the other looks
/// at what was found.
#[must_use]
pub fn hash_of(text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish() as u32
}
