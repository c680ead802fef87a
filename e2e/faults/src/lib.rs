//! The fault harness: the operator's reconciler, in this process, against the
//! real API server and Kyverno, with faults between the two.
//!
//! A run is a scenario with one fault. It sees a part of a shared cluster as
//! its whole cluster (`view`), through a transport below its client (`transport`) that
//! injects the fault. The [observer](signingkeyring_e2e_observer) judges it.

pub mod admin;
pub mod fault;
pub mod harness;
pub mod log;
pub mod operators;
pub mod response;
pub mod run;
pub mod scenario;
pub mod scenarios;
pub mod table;
pub mod transport;
pub mod view;
pub mod watches;
