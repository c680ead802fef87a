//! A sample of the fault harness: some faults of every scenario. All of them
//! are tried by `make faults`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use signingkeyring_e2e_faults::{
    harness::{Options, run_all},
    scenarios,
};
use signingkeyring_e2e_testbed::{cluster::Cluster, tools, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_anywhere_leads_to_the_same_end() {
    let program = tools::built("cluster").unwrap();
    let cluster = Cluster::start(&program, env!("CARGO_CRATE_NAME")).await.unwrap();
    let world = World { info: cluster.info.clone() };
    let options = Options {
        scenarios: scenarios::usual(),
        faults: Vec::new(),
        parallel: 24,
        busy: 12,
        sample: Some(2),
        seed: 1,
    };
    let table = run_all(&world, options).await.unwrap();
    println!("{table}");
    assert!(table.is_clean(), "{table}\n{}", cluster.logs());
}
