//! The operator's locks: those of the standard library, for whom a panic changes nothing. A
//! pass that panics has failed, and no other with it (`controllers/panics.rs`); a lock that
//! stayed poisoned would have every later one fail as well. What it left behind is taken as
//! it is: whatever a pass leaves half done is a start state like any other.

use std::sync::{self, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

/// A value for one at a time.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Free.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Waits until nobody has it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value for many who read, or one who writes.
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// Free.
    pub const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// Waits until nobody writes.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody has it.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_lock_is_taken_although_its_holder_panicked() {
        let (mutex, shared) = (Mutex::new(0), RwLock::new(0));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let (mut one, mut other) = (mutex.lock(), shared.write());
            (*one, *other) = (1, 1);
            panic!("while both are held");
        }));
        assert!(panicked.is_err());
        assert!(mutex.0.is_poisoned() && shared.0.is_poisoned());
        assert_eq!((*mutex.lock(), *shared.read()), (1, 1));
        *shared.write() = 2;
        assert_eq!(*shared.read(), 2);
    }
}
