//! Patterns as Kyverno takes them: `*` is any text, `?` any one character.

/// Whether a pattern fits all of a text.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (mut wanted, mut rest) = (pattern.chars(), text.chars());
    // What follows the last star, and what is left of the text after what it takes.
    let mut star = None;
    loop {
        let (mut next, mut found) = (wanted.clone(), rest.clone());
        match (next.next(), found.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((next.clone(), rest.clone()));
                wanted = next;
            }
            (Some(letter), Some(other)) if letter == '?' || letter == other => {
                (wanted, rest) = (next, found);
            }
            _ => {
                let Some((after, left)) = &mut star else { return false };
                // It takes one more.
                if left.next().is_none() {
                    return false;
                }
                (wanted, rest) = (after.clone(), left.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, slowly.
    fn oracle(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, rest) => rest.is_none(),
            (Some(('*', more)), rest) => {
                oracle(more, text) || rest.is_some_and(|(_, rest)| oracle(pattern, rest))
            }
            (Some(('?', more)), Some((_, rest))) => oracle(more, rest),
            (Some((wanted, more)), Some((found, rest))) => wanted == found && oracle(more, rest),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn it_fits_what_the_slow_one_does(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &text), oracle(&chars(&pattern), &chars(&text)));
        }
    }
}
