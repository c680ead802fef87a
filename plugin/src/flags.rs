//! The flags that several commands have.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use signingkeyring_core::names;

/// The name of an object of Kubernetes: it becomes a part of an address.
///
/// # Errors
/// If it can be none; the text says what to write.
pub fn name(text: &str) -> Result<String, String> {
    // Those of Secrets are as free as names get.
    match names::is_secret_name(text) {
        true => Ok(text.to_owned()),
        false => Err("write a name of small letters, digits, - and .".to_owned()),
    }
}

fn label_key(text: &str) -> Result<String, String> {
    match names::is_label_key(text) {
        true => Ok(text.to_owned()),
        false => Err(names::NO_LABEL_KEY.to_owned()),
    }
}

/// How to reach the cluster, and what is called how there.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// The kubeconfig to use, as kubectl's
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// The namespace, where a command takes one; otherwise the context's
    #[arg(
        short,
        long,
        global = true,
        value_parser = name,
        value_name = "NAME",
        help_heading = "Cluster"
    )]
    pub namespace: Option<String>,
    /// The key of the namespace label that enrols, as the operator has it
    #[arg(
        long,
        global = true,
        env = "SIGNING_ENROLMENT_LABEL",
        default_value = names::LABEL_RING,
        value_parser = label_key,
        hide_default_value = true,
        value_name = "KEY",
        help_heading = "Cluster"
    )]
    pub enrolment_label: String,
    /// The operator's namespace
    #[arg(
        long,
        global = true,
        env = "SIGNING_NAMESPACE",
        default_value = "signing-system",
        value_parser = name,
        hide_default_value = true,
        value_name = "NAME",
        help_heading = "Cluster"
    )]
    pub operator_namespace: String,
    /// Kyverno's namespace
    #[arg(
        long,
        global = true,
        env = "SIGNING_KYVERNO_NAMESPACE",
        default_value = names::KYVERNO_NAMESPACE,
        value_parser = name,
        hide_default_value = true,
        value_name = "NAME",
        help_heading = "Cluster"
    )]
    pub kyverno_namespace: String,
}

/// How a report is shown.
#[derive(Args, Clone, Copy, Debug)]
pub struct Report {
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

/// A way to show a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// The same, with all there is
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

/// What a command needs before it changes something.
#[derive(Args, Clone, Copy, Debug)]
pub struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Have the API server try it, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
