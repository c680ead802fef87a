//! The pattern parser: a pattern, a line end, an image. What is rendered from
//! the pattern skips no image that it does not mean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signingkeyring_core::images::{MAX_LENGTH, Pattern, minimal};

#[path = "../../core/src/images/tests/oracle.rs"]
mod oracle;

fuzz_target!(|text: &str| {
    let (written, image) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(pattern) = Pattern::parse(written) else { return };
    let normal = pattern.to_string();
    // What the normal form adds (`library/`, `:*`) may make it too long to be written.
    if normal.len() <= MAX_LENGTH {
        assert_eq!(Pattern::parse(&normal).as_ref(), Ok(&pattern), "{written:?}");
    }
    assert_eq!(minimal(vec![pattern.clone(), pattern.clone()]), [pattern.clone()]);
    let resolved = pattern.resolved();
    assert_eq!(Pattern::of_resolved(&resolved), Some(pattern.clone()), "{written:?}");
    if image.len() < 300 && oracle::is_reference(image) && oracle::excludes(&resolved, image) {
        assert!(oracle::means(written, image), "{written:?} excludes {image:?}");
    }
    let compared = oracle::kyvernos_string(image);
    for spelling in pattern.spellings() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        let body = spelling.strip_suffix('*').unwrap_or(&spelling);
        assert!(body.chars().all(plain) && body.contains('/'), "{written:?}: {spelling:?}");
        // Long texts make the matcher slow and find nothing more.
        if image.len() < 300 && oracle::is_reference(image) && oracle::glob(&spelling, &compared) {
            assert!(oracle::means(written, image), "{written:?} skips {image:?}");
        }
    }
});
