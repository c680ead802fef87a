//! A chaos experiment: rings rotate while everything around them is broken,
//! and a prober looks whether a wrong image is ever admitted or a right one
//! refused.
//!
//! [`experiment`] prepares and directs it. Who breaks and asks: `outages`,
//! `tampering`, `owners`. Who looks on: `monitor` (into `facts` and
//! `disturbances`), `prober`, `signer`. Who judges at the end: `verdict`.
//! What they share: `run`.

pub mod disturbances;
pub mod experiment;
pub mod facts;
pub mod journal;
pub mod monitor;
pub mod outages;
pub mod owners;
pub mod policies;
pub mod prober;
pub mod question;
pub mod random;
pub mod rights;
pub mod run;
pub mod secrets;
pub mod signer;
pub mod tampering;
pub mod verdict;
pub mod wait;
pub mod webhooks;
