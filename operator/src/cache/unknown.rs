//! Since when labels of namespaces name no ring.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Since when this process has seen each namespace with a label that names no
/// ring. Who applies both together is not to be told of the moment between.
#[derive(Debug, Default)]
pub struct UnknownSince(Mutex<HashMap<(String, String), Instant>>);

impl UnknownSince {
    /// Takes in all that are seen, each a namespace and the value of its label;
    /// returns how long each has been.
    pub fn ages(&self, seen: Vec<(String, String)>) -> Vec<(String, String, Duration)> {
        let now = Instant::now();
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *since);
        let ages = seen.into_iter().map(|key| {
            let first = before.get(&key).copied().unwrap_or(now);
            since.insert(key.clone(), first);
            (key.0, key.1, now.saturating_duration_since(first))
        });
        ages.collect()
    }
}

/// What the guard was told of labels that name no ring, as this process last saw or wrote
/// it; nothing until it was looked at.
#[derive(Debug, Default)]
pub struct UnknownTold(Mutex<Option<Vec<String>>>);

impl UnknownTold {
    /// The values.
    pub fn get(&self) -> Option<Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers them, or that they are to be looked at again.
    pub fn set(&self, values: Option<Vec<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = values;
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
}
