//! The operator runs as pods on a real node, installed by its chart and admitted by its
//! own policy: what `make demo NODE=1` shows, which ends well only if all of it is as it
//! should be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Stdio};

use signingkeyring_e2e_testbed::{left_out::left_out, node, tools};

#[test]
fn the_operator_runs_on_a_node_by_its_own_policy() {
    let test = "node::the_operator_runs_on_a_node_by_its_own_policy";
    if std::env::var_os("LONG_TESTS").is_none() {
        let why = "only with LONG_TESTS=1, as in make test-all: its image is a release build";
        return left_out(test, "a run that is quick", why).unwrap();
    }
    if let Some(why) = node::cannot() {
        return left_out(test, "this machine", &why).unwrap();
    }
    // Past what libtest keeps to itself: what it shows is what one wants to read.
    let demo = Command::new(tools::built("node-demo").unwrap()).stdin(Stdio::null()).status();
    assert!(demo.unwrap().success(), "see the lines above");
    // It took away what the kernel leaves of a node, which it can only where no process of
    // a pod is left.
    let left = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let left = left.map(|entry| entry.path().join(node::CGROUP)).filter(|path| path.exists());
    assert_eq!(left.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}
