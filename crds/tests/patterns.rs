//! What the API server accepts as an image pattern, the operator reads: the
//! CRD's rule and the parser agree on every text.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::LazyLock;

use kube::{CustomResourceExt, core::cel::Validator};
use proptest::prelude::*;
use serde_json::{Value, json};
use signingkeyring_core::images::Pattern;
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

/// The schema of `image`, as the list and the ring have it.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(ImageExclusionList::crd()).unwrap();
    schema_of(&crd, "spec/properties/images").clone()
});

fn schema_of<'a>(crd: &'a Value, list: &str) -> &'a Value {
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties";
    crd.pointer(&format!("{root}/{list}/items/properties/image")).unwrap()
}

fn is_admitted(text: &str) -> bool {
    let length = text.chars().count();
    let bounds = |key: &str| usize::try_from(SCHEMA[key].as_u64().unwrap()).unwrap();
    (bounds("minLength")..=bounds("maxLength")).contains(&length)
        && Validator::new().validate(&SCHEMA, &json!(text), None).is_ok()
}

fn agree(text: &str) -> Result<(), TestCaseError> {
    let parsed = Pattern::parse(text);
    prop_assert_eq!(is_admitted(text), parsed.is_ok(), "{:?} is read as {:?}", text, parsed);
    Ok(())
}

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What stands between the slashes, the colons and the ats.
const PARTS: [&str; 36] = [
    "quay.io",
    "docker.io",
    "index.docker.io",
    "localhost",
    "library",
    "org",
    "a",
    "a.b",
    "a_b",
    "a_b.c",
    "a__b",
    "a___b",
    "a--b",
    "a..b",
    "-a",
    "a-",
    "_a",
    "A",
    "1",
    "0",
    "443",
    "65535",
    "65536",
    "0443",
    "[::1]",
    "..",
    "",
    "*",
    "a*",
    "?",
    DIGEST,
    "sha256:00",
    "latest",
    "%2f",
    "{{",
    "\n",
];

fn text() -> impl Strategy<Value = String> {
    let joint = proptest::sample::select(&["/", "/", "/", ":", ":", "@", ".", "", "*"][..]);
    let part = proptest::sample::select(&PARTS[..]);
    let assembled = proptest::collection::vec((part, joint), 1..5).prop_map(|parts| {
        let text: String = parts.iter().map(|(part, joint)| format!("{part}{joint}")).collect();
        text.trim_end_matches(['/', ':', '@', '.']).to_owned()
    });
    prop_oneof![
        3 => assembled.clone(),
        3 => (assembled, proptest::sample::select(&["/*", ":*", ":1*", ":1", "/", "*"][..]))
            .prop_map(|(text, end)| text + end),
        1 => "[a-z0-9._/:@*-]{1,24}",
        1 => "\\PC{0,24}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn the_rule_and_the_parser_agree(text in text()) {
        agree(&text)?;
    }
}

#[test]
fn they_agree_at_the_limits() {
    let host = |port: &str| format!("quay.io:{port}/a");
    let mut texts: Vec<String> = [
        "",
        "*",
        "/",
        "a",
        "a/*",
        "quay.io/*",
        "library/*",
        "docker.io/library/*",
        "index.docker.io/library/*",
        "library/a/*",
        "quay.io/library/*",
        "quay.io//*",
        "docker.io//*",
        "a//*",
        "docker.io/library",
        "docker.io/*",
        "localhost/*",
        "localhost:*",
        "a:5000/*",
        "a\n",
        "a:1\n",
        "\u{0}",
        "ａ/b",
    ]
    .map(str::to_owned)
    .into();
    texts.extend(
        ["0", "1", "9", "10", "9999", "59999", "64999", "65499", "65529", "65535"].map(host),
    );
    texts.extend(["65536", "65540", "65600", "66000", "70000", "100000", "01", "+1", ""].map(host));
    for length in [127, 128, 129] {
        texts.push(format!("quay.io/a:{}", "t".repeat(length)));
        texts.push(format!("quay.io/a:{}*", "t".repeat(length)));
        texts.push(format!("quay.io/a:{}@{DIGEST}", "t".repeat(length)));
    }
    for length in [254, 255, 256] {
        texts.push(format!("quay.io/{}", "a".repeat(length - 8)));
    }
    let (mut admitted, mut refused) = (0, 0);
    for text in texts {
        agree(&text).unwrap();
        *(if is_admitted(&text) { &mut admitted } else { &mut refused }) += 1;
    }
    assert!(admitted > 15 && refused > 15, "{admitted} admitted, {refused} refused");
}

#[test]
fn rings_have_the_same_rule() {
    let ring = serde_json::to_value(SigningKeyRing::crd()).unwrap();
    assert_eq!(schema_of(&ring, "spec/properties/policy/properties/exclude"), &*SCHEMA);
}
