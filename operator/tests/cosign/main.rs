//! Keys against the real cosign: it reads ours, and we read what it writes.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy only knows the tests themselves")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use signingkeyring_operator::keys::{self, KeyError, KeyPair};

mod corpus;

/// cosign with a folder of its own, where the keys are files. The folder goes
/// when this does.
struct Cosign {
    program: PathBuf,
    folder: PathBuf,
}

impl Cosign {
    fn new(test: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster/bin/cosign");
        assert!(
            program.is_file(),
            "the real cosign is not there ({}): run `make cluster-tools` first",
            program.display()
        );
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cosign-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("blob"), "what is signed\n").unwrap();
        Self { program, folder }
    }

    /// The result of a command, run with these variables. Nothing of the
    /// caller's environment gets in, and whatever asks the network fails: its
    /// proxy is a port where nobody listens.
    fn output(&self, arguments: &str, variables: &[(&str, &[u8])]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(arguments.split(' ')).current_dir(&self.folder).env_clear();
        command.env("HOME", &self.folder);
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY"] {
            command.env(proxy, "http://127.0.0.1:1");
        }
        for (name, value) in variables {
            command.env(name, str::from_utf8(value).unwrap());
        }
        command.output().unwrap()
    }

    /// What a command that has to work prints.
    fn run(&self, arguments: &str, variables: &[(&str, &[u8])]) -> String {
        let output = self.output(arguments, variables);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cosign {arguments}: {log}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why a command that has to fail does.
    fn refusal(&self, arguments: &str, variables: &[(&str, &[u8])]) -> String {
        let output = self.output(arguments, variables);
        assert!(!output.status.success(), "cosign {arguments} should have failed");
        String::from_utf8(output.stderr).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.folder.join(name), content).unwrap();
    }
}

impl Drop for Cosign {
    fn drop(&mut self) {
        // Left behind, it would disturb nobody: the next run has another name.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const SIGN: &str = "sign-blob --tlog-upload=false --use-signing-config=false --bundle bundle.json";
const VERIFY: &str = "verify-blob --insecure-ignore-tlog=true --bundle bundle.json";

/// Whether the bundle's signature is `pair`'s and nobody else's.
fn assert_signed_by(cosign: &Cosign, pair: &KeyPair) {
    cosign.write("ours.pub", pair.public_pem().as_bytes());
    cosign.run(&format!("{VERIFY} --key ours.pub blob"), &[]);

    let other = KeyPair::generate().unwrap();
    cosign.write("other.pub", other.public_pem().as_bytes());
    let why = cosign.refusal(&format!("{VERIFY} --key other.pub blob"), &[]);
    assert!(why.contains("verif"), "refused for another reason: {why}");

    cosign.write("changed", b"what is not signed\n");
    let why = cosign.refusal(&format!("{VERIFY} --key ours.pub changed"), &[]);
    assert!(why.contains("verif"), "refused for another reason: {why}");

    let bundle: serde_json::Value = serde_json::from_slice(&cosign.read("bundle.json")).unwrap();
    let hint = bundle.pointer("/verificationMaterial/publicKey/hint").unwrap().as_str().unwrap();
    assert_eq!(format!("SHA256:{hint}"), pair.fingerprint().as_str());
}

#[test]
fn signs_with_our_key_from_a_file() {
    let (cosign, pair) = (Cosign::new("file"), KeyPair::generate().unwrap());
    cosign.write("cosign.key", pair.encrypted_pem());
    let password = ("COSIGN_PASSWORD", &pair.password()[..]);
    cosign.run(&format!("{SIGN} --key cosign.key blob"), &[password]);
    assert_signed_by(&cosign, &pair);
}

#[test]
fn signs_with_our_key_from_the_environment() {
    let (cosign, pair) = (Cosign::new("env"), KeyPair::generate().unwrap());
    let variables =
        [("COSIGN_PRIVATE_KEY", pair.encrypted_pem()), ("COSIGN_PASSWORD", &pair.password()[..])];
    cosign.run(&format!("{SIGN} --key env://COSIGN_PRIVATE_KEY blob"), &variables);
    assert_signed_by(&cosign, &pair);
}

#[test]
fn prints_our_public_key_byte_for_byte() {
    let (cosign, pair) = (Cosign::new("public"), KeyPair::generate().unwrap());
    cosign.write("cosign.key", pair.encrypted_pem());
    let password = ("COSIGN_PASSWORD", &pair.password()[..]);
    assert_eq!(cosign.run("public-key --key cosign.key", &[password]), pair.public_pem());
}

/// Why the password has no newline: cosign does not take one off.
#[test]
fn takes_the_password_byte_for_byte() {
    let (cosign, pair) = (Cosign::new("password"), KeyPair::generate().unwrap());
    assert!(!pair.password().contains(&b'\n'));
    cosign.write("cosign.key", pair.encrypted_pem());
    let with_newline = [&pair.password()[..], b"\n"].concat();
    let variables = [("COSIGN_PASSWORD", &with_newline[..])];
    let why = cosign.refusal("public-key --key cosign.key", &variables);
    assert!(why.contains("decryption failed"), "refused for another reason: {why}");
}

#[test]
fn we_read_what_cosign_writes() {
    let cosign = Cosign::new("generate");
    cosign.run("generate-key-pair", &[("COSIGN_PASSWORD", b"chosen by hand")]);
    let (sealed, public) = (cosign.read("cosign.key"), cosign.read("cosign.pub"));
    let opened = keys::open(&sealed, b"chosen by hand").unwrap();
    assert_eq!(opened.public_pem().unwrap().as_bytes(), public);
    assert_eq!(keys::open(&sealed, b"another").unwrap_err(), KeyError::Password);
}
