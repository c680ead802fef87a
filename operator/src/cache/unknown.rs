//! Since when labels of namespaces name no ring.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::lock::Mutex;

/// Since when this process has seen each namespace with a label that names no
/// ring. Who applies both together is not to be told of the moment between.
#[derive(Debug, Default)]
pub struct UnknownSince(Mutex<HashMap<(String, String), Instant>>);

impl UnknownSince {
    /// Takes in all that are seen, each a namespace and the value of its label;
    /// returns how long each has been.
    pub fn ages(&self, seen: Vec<(String, String)>) -> Vec<(String, String, Duration)> {
        let now = Instant::now();
        let mut since = self.0.lock();
        let before = std::mem::take(&mut *since);
        let ages = seen.into_iter().map(|key| {
            let first = before.get(&key).copied().unwrap_or(now);
            since.insert(key.clone(), first);
            (key.0, key.1, now.saturating_duration_since(first))
        });
        ages.collect()
    }
}

/// What the guard was told of labels that name no ring.
#[derive(Debug, Default)]
pub struct UnknownTold(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Sorted.
    values: Vec<String>,
    /// Whether nobody may have changed it since.
    is_certain: bool,
}

impl UnknownTold {
    /// Whether it was certainly told these values.
    pub fn is(&self, values: &[String]) -> bool {
        let told = self.0.lock();
        told.is_certain && told.values == values
    }

    /// Whether what is there has to be looked at.
    pub fn is_uncertain(&self) -> bool {
        !self.0.lock().is_certain
    }

    /// Whether it was last told one of these.
    pub fn names_any<'a>(&self, mut values: impl Iterator<Item = &'a String>) -> bool {
        let told = self.0.lock();
        values.any(|value| told.values.binary_search(value).is_ok())
    }

    /// Remembers that it was told these values, which are sorted.
    pub fn set(&self, values: Vec<String>) {
        *self.0.lock() = Told { values, is_certain: true };
    }

    /// Somebody may have changed it.
    pub fn doubt(&self) {
        self.0.lock().is_certain = false;
    }

    /// It could not be told.
    pub fn forget(&self) {
        *self.0.lock() = Told::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_label_that_was_right_meanwhile_begins_anew() {
        let since = UnknownSince::default();
        let seen = || vec![("dev".to_owned(), "chekout".to_owned())];
        let age = |seen| since.ages(seen).first().map(|(.., age)| *age);
        assert_eq!(age(seen()), Some(Duration::ZERO));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(age(seen()), Some(Duration::from_secs(4)));
        assert_eq!(age(Vec::new()), None);
        assert_eq!(age(seen()), Some(Duration::ZERO));
    }

    /// A ring waits for what was told, even where that is to be looked at again; not for what
    /// cannot be told.
    #[test]
    fn what_was_told_counts_until_it_is_told_anew_or_cannot_be() {
        let told = UnknownTold::default();
        let names = |ring: &str| told.names_any([ring.to_owned()].iter());
        assert!(told.is_uncertain() && !told.is(&[]) && !names("typo"));
        told.set(vec!["shop".to_owned(), "typo".to_owned()]);
        assert!(told.is(&["shop".to_owned(), "typo".to_owned()]) && names("typo"));
        assert!(!names("checkout"));
        told.doubt();
        assert!(told.is_uncertain() && names("typo"));
        told.forget();
        assert!(told.is_uncertain() && !names("typo"));
    }
}
