//! Exclusions, of lists and of rings.

use signingkeyring_core::{images::Pattern, ledger::Exclusion};
use signingkeyring_crds::ImageExclusion;

/// Reads one exclusion.
///
/// # Errors
/// If its image or its date cannot be read; the text says what to write.
pub fn exclusion(entry: &ImageExclusion) -> Result<Exclusion, String> {
    Pattern::parse(&entry.image).map_err(|error| error.to_string())?;
    let expires =
        match &entry.expires {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                format!("expires {text:?} is no date; write one such as 2027-01-31")
            })?),
        };
    Ok(Exclusion { image: entry.image.clone(), expires })
}
