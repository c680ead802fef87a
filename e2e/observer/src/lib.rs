//! The independent observer: keeps every state of policies, Secrets, rings and
//! namespaces on the API server, and judges them in order. It reads them with
//! parsers of its own and uses nothing of the operator and nothing of its core:
//! a mistake made there must not be made twice.

pub mod bystander;
pub mod checks;
#[cfg(test)]
mod fixtures;
pub mod history;
pub mod invariant;
pub mod ledger;
pub mod marks;
pub mod normalized;
pub mod observer;
pub mod parse;
pub mod soak;
