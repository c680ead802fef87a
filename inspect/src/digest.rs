//! SHA-256, as registries write it.

use sha2::{Digest as _, Sha256};

/// SHA-256 of what was read.
pub(crate) fn of(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

/// As registries write it.
pub(crate) fn text(digest: &[u8; 32]) -> String {
    format!("sha256:{}", base16ct::lower::encode_string(digest))
}

/// Reads what a registry wrote. Nothing of another algorithm.
pub(crate) fn parse(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?;
    base16ct::lower::decode(hex, &mut digest).ok()?;
    Some(digest)
}
