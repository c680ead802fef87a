//! Texts that mean something to somebody: YAML, templates, CEL, JMESPath,
//! terminals, shells. Each holds [`MARK`], which no policy may show.

use serde_json::{Value, json};

/// Stands in every free text.
pub const MARK: &str = "zz-hostile-zz";

/// Free texts of at most 253 characters.
pub fn texts() -> Vec<String> {
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b,*b]\nd: *c";
    [
        "{{request.object.metadata.name}}",
        "{{ images.containers.*.registry | [0] }}",
        "{{serviceAccountName}}",
        "{{ random('[a-z]{9}') }}",
        "}}{{",
        "{{",
        "$(id)",
        "$(POD_NAME) ${HOME}",
        "`touch /tmp/x`",
        "${jndi:ldap://127.0.0.1/x}",
        "'\"]}} , image: '*', reason: '",
        "\n  - image: '*'\n    reason: x",
        "\r\n---\r\nkind: ClusterPolicy\r\n",
        bomb,
        "!!python/object/apply:os.system [id]",
        "*anchor &anchor <<: *x",
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----",
        "object.spec.containers.all(c, true) || true",
        "self.matches('.*') ? true : false",
        "length(@) > `0` || to_array(@)[?x=='y']",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "\u{1}\u{2}\u{8}\u{7f}",
        "\u{0}",
        "\u{202e}gnol\u{202c}\u{200b}\u{feff}",
        "🦀👩‍👩‍👧‍👦 é e\u{301} \u{1d56b}",
        "%s%n%x %00 ../../../etc/passwd",
        "<script>alert(1)</script><!--]]>",
        "checkout=99.deadbeef shop=1.x",
        "SHA256:AAAA signing.odj.cloud/ledger",
    ]
    .map(|text| format!("{MARK}{text}"))
    .into()
}

/// Patterns that are to be refused: they would widen, or are no image at all.
pub fn patterns() -> Vec<String> {
    let digest = "0".repeat(63);
    let mut patterns: Vec<String> = [
        "",
        "*",
        "**",
        "/",
        "/*",
        "*/*",
        "*.io/x/*",
        "*:*",
        "?",
        "quay.io*",
        "quay.io/x*",
        "quay.io/*/x",
        "quay.io/x/**",
        "quay.io/x?:*",
        "quay.io/x:*:*",
        "quay.io/x:1@*",
        "quay.io//x",
        "quay.io//*",
        "index.docker.io//*",
        "quay.io/../x",
        "quay.io/x/..",
        "quay.io/x/../*",
        "./x",
        "../x",
        "quay.io/.",
        "quay.io./x/*",
        ".quay.io/x",
        "quay..io/x/*",
        "quay.io/x.",
        "quay.io/x./*",
        "QUAY.IO/x",
        "quay.io/X/*",
        "quay.io%2fx/*",
        "quay.io/%2e%2e/x",
        "quay.io/x%00",
        "[::1]:5000/x",
        "[::1]/x/*",
        "::1/x",
        "[fe80::1%25eth0]:5000/x:*",
        "quay.io:/x",
        "quay.io:0/x",
        "quay.io:65536/x",
        "quay.io:99999/x",
        "quay.io:0443/x",
        "quay.io:-1/x",
        "quay.io:4_3/x",
        ":5000/x",
        "@sha256:00",
        "quay.io/x@sha256:*",
        "library/*",
        "docker.io/library/*",
        "index.docker.io/library/*",
        "quay.io/x:",
        "quay.io/x:.a",
        "https://quay.io/x",
        "quay.io/x y",
        "quay.io/x\n",
        "quay.io/x\n/*",
        "quay.io/\u{0}",
        "quay.io/ä",
        "quаy.io/x",
        "quay.io/x\u{200b}",
        "quay.io/{{x}}",
        "quay.io/x:{{request.object}}",
        "quay.io/$(x)",
        "quay.io/x:1'",
        "quay.io/x\"]",
        "user:pass@quay.io/x",
        "quay.io/x#y",
        "quay.io/x:1|2",
        "(a|b)/*",
        "a_b.c/x",
        "-quay.io/x",
        "quay-.io/x",
        "quay.io/a___b",
        "quay.io/_a",
    ]
    .map(str::to_owned)
    .into();
    patterns.push(format!("quay.io/x@sha256:{digest}"));
    patterns.push(format!("quay.io/{}", "x".repeat(505)));
    patterns.push(format!("quay.io/x:{}", "1".repeat(129)));
    patterns.push("quay.io/x/".repeat(100_000));
    patterns
}

/// A ring with a spec.
pub fn ring(name: &str, spec: &Value) -> Value {
    object("SigningKeyRing", name, spec)
}

/// A list with these entries.
pub fn list(name: &str, images: &Value) -> Value {
    object("ImageExclusionList", name, &json!({"images": images}))
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "signing.odj.cloud/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// A spec that becomes ready at once, with more fields.
pub fn spec(more: &Value) -> Value {
    let mut spec = json!({"rotation": {"soak": "0s"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}
