//! The reader of cosign's encrypted private keys. The first byte says what the
//! rest is: a file as it stands, or the JSON inside one, which mutations of
//! the base64 around it would hardly ever reach.
#![no_main]

use std::sync::atomic::{AtomicU64, Ordering};

use base64ct::{Base64, Encoding};
use libfuzzer_sys::fuzz_target;

/// The operator's source, without the operator.
#[path = "../../src"]
mod operator {
    #![allow(dead_code, reason = "only the reader is called")]
    pub mod keys;
}

use operator::keys::{KeyError, open, opening_cost};

/// A key that passes every check costs a tenth of a second of derivation: one
/// in so many executions may. The first always does, so that a crash repeats.
const ONE_IN: u64 = 5_000;

static EXECUTIONS: AtomicU64 = AtomicU64::new(0);
static DERIVATIONS: AtomicU64 = AtomicU64::new(0);

fuzz_target!(|input: &[u8]| {
    let executions = EXECUTIONS.fetch_add(1, Ordering::Relaxed);
    let Some((kind, rest)) = input.split_first() else { return };
    let pem = match kind % 2 {
        0 => rest.to_vec(),
        _ => wrap(rest),
    };
    // Then the derivation may run.
    if opening_cost(&pem).is_ok() {
        if DERIVATIONS.load(Ordering::Relaxed) * ONE_IN > executions {
            return;
        }
        DERIVATIONS.fetch_add(1, Ordering::Relaxed);
    }
    match open(&pem, b"password") {
        Ok(key) => assert!(key.public_pem().is_ok()),
        Err(KeyError::Format(_) | KeyError::Password) => {}
        Err(other) => panic!("opening a key must not end so: {other:?}"),
    }
});

fn wrap(json: &[u8]) -> Vec<u8> {
    let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
    let base64 = Base64::encode_string(json);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n").into_bytes()
}
