//! What else in a cluster touches rings, Secrets, policies and images: the
//! tests behind `docs/neighbours.md`.

mod admission;
mod gitops;
mod images;
mod table;
