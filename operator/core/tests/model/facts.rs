//! What the model knows of a ledger, once: its hash, and the rule that the
//! real renderer makes of it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use signingkeyring_core::{
    high_water::HighWater,
    ledger::PrivateKeyRef,
    ledger::{Ledger, NewKey},
    marks::Mark,
    policy::cluster_policy::{ClusterPolicy, keys_of},
};

use crate::view::{LABEL, NAMESPACE, RING};

/// The keys that a policy holds of a ring, as PEM.
pub type Renderer = fn(&Ledger) -> Vec<String>;

/// A rule as a policy holds it, or Kyverno.
#[derive(Debug)]
pub struct Rule {
    pub mark: Mark,
    pub keys: Keys,
    pub high_water: HighWater,
    hash: u64,
}

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
    pub rule: Arc<Rule>,
    /// The key pairs of its accepted versions.
    pub accepted: Keys,
    hash: u64,
}

/// Every ledger that was ever reached, so that each is rendered once.
pub struct Archive {
    render: Renderer,
    ledgers: Mutex<HashMap<u64, Arc<Stored>>>,
}

impl Archive {
    pub fn new(render: Renderer) -> Self {
        Self { render, ledgers: Mutex::default() }
    }

    pub fn store(&self, ledger: Ledger) -> Arc<Stored> {
        let json = ledger.to_json();
        let hash = hash_of(&json);
        let mut ledgers = self.ledgers.lock().unwrap();
        let stored = ledgers.entry(hash).or_insert_with(|| {
            assert_eq!(Ledger::parse(&json).as_ref(), Ok(&ledger), "a ledger reads as written");
            let keys =
                (self.render)(&ledger).iter().map(|pem| serial_of(pem)).fold(Keys(0), Keys::with);
            let mark = ledger.mark();
            let hash_of_rule = hash_of(&(mark.sequence, &mark.key_set, keys));
            let rule =
                Arc::new(Rule { mark, keys, high_water: ledger.high_water(), hash: hash_of_rule });
            let accepted = ledger.accepted().map(|v| serial_of(&v.public_key));
            let accepted = accepted.fold(Keys(0), Keys::with);
            Arc::new(Stored { ledger, rule, accepted, hash })
        });
        Arc::clone(stored)
    }
}

/// The keys in the ring's rule, as the real renderer writes it.
pub fn rendered(ledger: &Ledger) -> Vec<String> {
    let kind = ClusterPolicy {
        policy: ledger.rule.settings.policy,
        excluded: &[],
        operator_namespace: NAMESPACE,
        enrolment_label: LABEL,
        now: Timestamp::UNIX_EPOCH,
    };
    keys_of(&kind.ring_rule(RING, ledger).rule).into_iter().collect()
}

/// The public half of the pair that was minted as number `serial`.
pub fn key(serial: u8) -> NewKey {
    NewKey {
        public_key: format!("-----BEGIN PUBLIC KEY-----\n{serial}\n-----END PUBLIC KEY-----\n"),
        fingerprint: format!("SHA256:{serial}").parse().unwrap(),
        private_key: PrivateKeyRef { digest: "00".into(), secret: None },
    }
}

/// Which pair a public key belongs to; 0 stands for the constant key that
/// nobody can sign with.
pub fn serial_of(pem: &str) -> u8 {
    pem.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
}

pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

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
identified_by_hash!(Rule Stored);
