//! What rings cost.
//!
//! `bench-kinds` is about what each kind of policy costs a pod, by number of rings, of
//! rings in a policy and of keys, and how large what Kyverno is told becomes. Each
//! arrangement has a cluster of its own (`bed`), whose rings are restored from ledgers
//! that are made up (`ledgers`): a key pair that nobody seals costs nothing. The clusters
//! of a table stand side by side and are asked in turn (`asked`), so what else the machine
//! does falls on all of them alike. `sizes` measures bytes, `tables` prints.
//!
//! `bench` is about the operator (`fleet`): what many rings take at rest, and what becomes
//! of them when all want something at once. Its tables name the limits that they are held
//! against, or stand beside what the simplest design would cost in the same run: a policy
//! for each ring, and the sealing of keys alone.

pub mod asked;
pub mod bed;
pub mod fleet;
pub mod images;
pub mod ledgers;
pub mod plot;
pub mod process;
pub mod requests;
pub mod sizes;
pub mod tables;
