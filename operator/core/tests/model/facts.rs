//! What the model knows of keys and ledgers.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
};

use signingkeyring_core::{
    ledger::{Ledger, NewKey, PrivateKeyRef},
    marks::RuleState,
    policy::NOBODYS_KEY,
};

/// A set of key pairs, by the order of their minting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keys(pub u16);

impl Keys {
    pub fn with(self, serial: u8) -> Self {
        Self(self.0 | 1 << serial)
    }

    pub fn has(self, serial: u8) -> bool {
        self.0 & (1 << serial) != 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn less(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The newest of them, or 0.
    pub fn last(self) -> u8 {
        (0..16).rev().find(|serial| self.has(*serial)).unwrap_or(0)
    }

    /// The `count` newest of them.
    pub fn newest(self, count: u8) -> Self {
        let mut left = count;
        let newest = (0..16).rev().filter(|serial| self.has(*serial)).take_while(|_| {
            left = left.wrapping_sub(1);
            left != u8::MAX
        });
        newest.fold(Self::default(), Self::with)
    }
}

/// A ledger in a state of the model.
#[derive(Debug)]
pub struct Stored {
    pub ledger: Ledger,
    pub state: RuleState,
    /// The key pairs of its accepted versions.
    pub accepted: Keys,
    hash: u64,
}

/// Every ledger that was ever reached, once.
#[derive(Default)]
pub struct Archive {
    ledgers: Mutex<HashMap<u64, Arc<Stored>>>,
}

impl Archive {
    pub fn store(&self, ledger: Ledger) -> Arc<Stored> {
        let json = ledger.to_json();
        let hash = hash_of(&json);
        let mut ledgers = self.ledgers.lock().unwrap();
        let stored = ledgers.entry(hash).or_insert_with(|| {
            assert_eq!(Ledger::parse(&json).as_ref(), Ok(&ledger), "a ledger reads as written");
            let accepted = ledger.accepted().map(|v| serial_of(&v.public_key.text()));
            let accepted = accepted.fold(Keys(0), Keys::with);
            Arc::new(Stored { state: ledger.rule_state(), ledger, accepted, hash })
        });
        Arc::clone(stored)
    }
}

/// The public half of the pair that was minted as number `serial`.
pub fn key(serial: u8) -> NewKey {
    NewKey {
        public_key: format!("-----BEGIN PUBLIC KEY-----\n{serial}\n-----END PUBLIC KEY-----\n"),
        fingerprint: format!("SHA256:{serial}").parse().unwrap(),
        private_key: PrivateKeyRef { digest: "00".into(), secret: None },
    }
}

/// Stands for every key that nobody in the model minted.
pub const STRANGER: u8 = 12;

/// Which pair a public key belongs to; 0 stands for the constant key that
/// nobody can sign with.
pub fn serial_of(pem: &str) -> u8 {
    if pem == NOBODYS_KEY {
        return 0;
    }
    pem.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(STRANGER)
}

pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Has values compared by the field `hash`, which stands for all of them.
#[macro_export]
macro_rules! identified_by_hash {
    ($($name:ident)+) => {
        $(
            impl Hash for $name {
                fn hash<H: Hasher>(&self, hasher: &mut H) {
                    hasher.write_u64(self.hash);
                }
            }

            impl PartialEq for $name {
                fn eq(&self, other: &Self) -> bool {
                    self.hash == other.hash
                }
            }

            impl Eq for $name {}
        )+
    };
}
identified_by_hash!(Stored);
