//! The command line: help, exit codes and what it says when called wrongly.

use assert_cmd::{Command, cargo::cargo_bin_cmd};

fn operator() -> Command {
    let mut command = cargo_bin_cmd!("signingkeyring-operator");
    command.env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_setting_and_its_variable() {
    let output = operator().arg("--help").assert().success().get_output().clone();
    let help = text(&output.stdout);
    for word in [
        "--enrolment-label",
        "SIGNING_ENROLMENT_LABEL",
        "--rings-per-policy",
        "--gate-interval",
        "SIGNING_SEALINGS",
        "--listen",
        "--log-format",
        "default: signing.odj.cloud/ring",
        "/metrics",
        "--metrics-secure",
        "SIGNING_METRICS_CERT_PATH",
    ] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
}

#[test]
fn a_wrong_setting_ends_with_two_and_says_what_to_write() {
    for (flag, sentence) in [
        ("--enrolment-label=not a label", "must be a label key such as odj.cloud/application"),
        ("--gate-interval=often", "write a whole number and one of the units s, m, h, d"),
        ("--rings-per-policy=0", "0 is not in 1..=100"),
        ("--sealings=17", "17 is not in 1..=16"),
        ("--unknown", "unexpected argument"),
        ("--metrics-cert-path=/tmp", "--metrics-secure"),
        ("--metrics-bind-address=127.0.0.1:0", "--metrics-secure"),
    ] {
        let output = operator().arg(flag).assert().code(2).get_output().clone();
        let error = text(&output.stderr);
        assert!(error.contains(sentence), "{sentence:?} is not in:\n{error}");
    }
}

/// As the manifests set it.
#[test]
fn what_a_variable_says_of_other_replicas_is_read() {
    let says = |value: &str| {
        let output = operator().env("SIGNING_LEADER_ELECT", value).assert().failure();
        (output.get_output().status.code(), text(&output.get_output().stderr))
    };
    let (code, error) = says("true");
    assert_eq!(code, Some(1), "it needs a cluster, and has understood: {error}");
    let (code, error) = says("perhaps");
    assert_eq!(code, Some(2), "{error}");
}

#[test]
fn without_a_cluster_it_ends_with_one_and_names_the_kubeconfig() {
    let output = operator().assert().code(1).get_output().clone();
    let error = text(&output.stderr);
    assert!(error.contains("name a kubeconfig with --kubeconfig"), "{error}");
    let output =
        operator().args(["--kubeconfig", "/nowhere"]).assert().code(1).get_output().clone();
    assert!(text(&output.stderr).contains("reading kubeconfig /nowhere"));
}
