//! The test cluster (real etcd, kube-apiserver, controller manager, Kyverno,
//! registry and cosign), and what the demo and the end-to-end tests do in it.

pub mod audit;
pub mod cluster;
pub mod components;
pub mod images;
pub mod injector;
pub mod kind;
pub mod left_out;
pub mod node;
pub mod operator;
pub mod page;
pub mod pki;
pub mod private;
pub mod prometheus;
pub mod proxy;
pub mod replicas;
pub mod rights;
pub mod service;
pub mod slow;
pub mod supervisor;
pub mod tools;
pub mod valve;
pub mod world;
