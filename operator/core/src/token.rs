//! The rotation token: which texts ask for a rotation.

/// The longest rotation token, in characters: that of a Kubernetes annotation
/// key's name would be shorter, that of a label value far shorter.
pub const MAX_TOKEN: usize = 253;

/// Whether a rotation token can be handled. One with a control character could
/// not be reported: the API server reads an applied status as YAML, which has
/// no place for some of them, and the ring would never show a condition again.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let unreadable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().count() <= MAX_TOKEN && !text.contains(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_can_be_reported() {
        for good in ["2026-11-24", "ä {{x}} 🦀", "\u{feff}", &"t".repeat(MAX_TOKEN)] {
            assert!(is_token(good), "{good:?}");
        }
        for bad in ["a\u{7f}", "\u{0}", "a\n", "\u{85}", "\u{fffe}", &"t".repeat(MAX_TOKEN + 1)] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }
}
