//! Patterns against every spelling of an image, judged by an oracle that
//! knows Docker's rules and nothing of globs.

use proptest::prelude::*;

use super::*;

mod excluded;
mod hostile;
mod oracle;

use oracle::{glob, kyvernos_string, repository};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The platform's list.
const PLATFORM: [&str; 16] = [
    "eu.gcr.io/sit-odj/*",
    "eu.gcr.io/sit-odj/debug/*",
    "reg.infra.ske.eu01.stackit.cloud/*",
    "kbudde/rabbitmq-exporter:*",
    "bitnami/postgres-exporter:*",
    "prom/mysqld-exporter:*",
    "percona/mongodb_exporter:*",
    "google/apigee-envoy-adapter:*",
    "prom/prometheus:*",
    "grafana/promtail:*",
    "docker.io/busybox:*",
    "quay.io/jetstack/*",
    "ghcr.io/kyverno/*",
    "k8s.gcr.io/ingress-nginx/*",
    "registry.k8s.io/ingress-nginx/*",
    "registry.k8s.io/kube-state-metrics/kube-state-metrics:*",
];

fn skips(pattern: &str, image: &str) -> bool {
    let text = kyvernos_string(image);
    Pattern::parse(pattern).unwrap().spellings().iter().any(|g| glob(g, &text))
}

#[test]
fn every_spelling_of_the_platforms_images_is_skipped() {
    for pattern in PLATFORM {
        let base = pattern.trim_end_matches('*').trim_end_matches(':');
        let repositories = if base.ends_with('/') {
            vec![format!("{base}x"), format!("{base}a/b"), format!("{base}a/b/c")]
        } else {
            let short = base.trim_start_matches("docker.io/");
            let hub = !short.split('/').next().unwrap().contains('.');
            let mut all = vec![base.to_owned()];
            if hub {
                all.extend([
                    short.to_owned(),
                    format!("docker.io/{short}"),
                    format!("index.docker.io/{short}"),
                ]);
            }
            if hub && !short.contains('/') {
                all.extend(
                    ["library/", "docker.io/library/", "index.docker.io/library/"]
                        .map(|p| format!("{p}{short}")),
                );
            }
            all
        };
        for repository in repositories {
            for suffix in ["", ":v1", &format!("@{DIGEST}"), &format!(":v1@{DIGEST}")] {
                let image = format!("{repository}{suffix}");
                assert!(skips(pattern, &image), "{pattern} misses {image}");
            }
        }
    }
}

#[test]
fn near_misses_are_not_skipped() {
    for image in [
        "evil.example/quay.io/jetstack/x",
        "quay.io/jetstack-evil/x",
        "quay.io/jetstack",
        "quay.io:443/jetstack/x",
        "docker.io/kbudde/rabbitmq-exporter-evil:1",
        "kbudde/rabbitmq-exporter/evil:1",
        "evil.example/kbudde/rabbitmq-exporter:1",
        "prom/prometheus2:1",
        "busybox2",
        "evil/busybox:1",
        "registry.k8s.io/kube-state-metrics/kube-state-metrics-evil:1",
        "reg.infra.ske.eu01.stackit.cloud.evil.example/x",
    ] {
        for pattern in PLATFORM {
            assert!(!skips(pattern, image), "{pattern} skips {image}");
        }
    }
}

#[test]
fn normal_forms() {
    for (text, normal) in [
        ("busybox", "docker.io/library/busybox:*"),
        ("docker.io/busybox:*", "docker.io/library/busybox:*"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:*"),
        ("prom/*", "docker.io/prom/*"),
        ("index.docker.io/*", "docker.io/*"),
        ("localhost:5000/a/b:1.*", "localhost:5000/a/b:1.*"),
        ("quay.io/a/b:1.2", "quay.io/a/b:1.2"),
        ("quay.io/*", "quay.io/*"),
    ] {
        assert_eq!(Pattern::parse(text).unwrap().to_string(), normal, "{text}");
    }
    let digest = format!("quay.io/a/b@{DIGEST}");
    assert_eq!(Pattern::parse(&digest).unwrap().to_string(), digest);
    assert_eq!(Pattern::parse(&format!("quay.io/a/b:1@{DIGEST}")).unwrap().to_string(), digest);
}

#[test]
fn what_is_resolved_is_read_back() {
    let digest = format!("@{DIGEST}");
    for (text, resolved) in [
        ("busybox", "index.docker.io/library/busybox"),
        ("docker.io/busybox:1.2", "index.docker.io/library/busybox:1.2"),
        ("prom/*", "index.docker.io/prom/"),
        ("index.docker.io/*", "index.docker.io/"),
        ("localhost:5000/a/b:1.*", "localhost:5000/a/b:1.*"),
        ("quay.io/*", "quay.io/"),
        (&format!("quay.io/a/b:1{digest}"), &format!("quay.io/a/b{digest}")),
    ] {
        let pattern = Pattern::parse(text).unwrap();
        assert_eq!(pattern.resolved(), resolved, "{text}");
        assert_eq!(Pattern::of_resolved(resolved), Some(pattern), "{text}");
    }
    // What nobody has written so.
    for text in
        ["busybox", "docker.io/busybox", "quay.io/*", "quay.io/a:*", "index.docker.io/library/", ""]
    {
        assert_eq!(Pattern::of_resolved(text), None, "{text}");
    }
}

/// Docker Hub's names grow when they are resolved.
#[test]
fn the_longest_pattern_is_read_back_as_well() {
    for end in ["", "/*", ":1", ":1*"] {
        let path = "a".repeat(MAX_LENGTH - end.len() - 2);
        for text in [format!("b/{path}{end}"), format!("bb{path}{end}")] {
            let Ok(pattern) = Pattern::parse(&text) else { continue };
            assert_eq!(Pattern::of_resolved(&pattern.resolved()), Some(pattern), "{text}");
        }
    }
}

#[test]
fn what_would_widen_is_refused() {
    for text in [
        "*",
        "*/x",
        "*.gcr.io/x/*",
        "quay.io*",
        "quay.io/jetstack*",
        "quay.io/*/x",
        "quay.io/a?/b",
        "quay.io/a:*:*",
        "quay.io/a/**",
        "",
        "/",
        "/*",
        "quay.io/",
        "quay.io//x",
        "quay.io//*",
        "index.docker.io//*",
        "quay.io/../x",
        "quay.io/./x",
        "quay.io/A/b",
        "Quay.io/a/b:1",
        "quay.io/a%2fb",
        "quay.io./a",
        "[::1]:5000/a",
        "quay.io/a b",
        "quay.io/a\n/b",
        "quay.io/ä",
        "https://quay.io/a",
        "quay.io:0/a",
        "quay.io:99999/a",
        "quay.io/a@sha256:*",
        "quay.io/a@sha256:00",
        "quay.io/a:",
        "quay.io/-a",
        "quay.io/a-",
        "quay.io/a___b",
        "quay.io/a..b",
        "docker.io/library/*",
        "library/*",
        "quay.io/a:{{x}}",
        "quay.io/a:1@*",
        "-quay.io/a",
        "quay.io/a:.b",
    ] {
        assert!(Pattern::parse(text).is_err(), "{text:?}");
    }
    let of_length = |length: usize| Pattern::parse(&format!("quay.io/{}", "a".repeat(length - 8)));
    assert!(of_length(255).is_ok());
    assert_eq!(of_length(256), Err(PatternError::Length));
}

#[test]
fn covered_patterns_are_dropped() {
    let patterns = [
        "eu.gcr.io/sit-odj/debug/*",
        "eu.gcr.io/sit-odj/*",
        "eu.gcr.io/sit-odj/*",
        "busybox:1.36",
        "docker.io/library/busybox:*",
        "eu.gcr.io/sit-odj-evil/*",
        "quay.io/a:1.*",
        "quay.io/a:1.2",
    ];
    let minimal = minimal(patterns.iter().map(|p| Pattern::parse(p).unwrap()).collect());
    let texts: Vec<String> = minimal.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "docker.io/library/busybox:*",
            "eu.gcr.io/sit-odj/*",
            "eu.gcr.io/sit-odj-evil/*",
            "quay.io/a:1.*",
        ]
    );
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("library"), Just("a-b"), Just("ab"), Just("x_y")]
        .prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        Just(""),
        Just("docker.io/"),
        Just("index.docker.io/"),
        Just("quay.io/"),
        Just("localhost:5000/"),
        Just("evil.example/")
    ];
    (host, proptest::collection::vec(segment(), 1..4))
        .prop_map(|(host, path)| format!("{host}{}", path.join("/")))
}

fn any_pattern() -> impl Strategy<Value = String> {
    let end = prop_oneof![
        Just(String::new()),
        Just("/*".to_owned()),
        Just(format!("@{DIGEST}")),
        "(1|1\\.|1\\.2|2)\\*?".prop_map(|tag| format!(":{tag}")),
    ];
    let whole_registry = Just("quay.io/*".to_owned());
    prop_oneof![20 => (name(), end).prop_map(|(name, end)| name + &end), 1 => whole_registry]
}

fn parsed(texts: &[String]) -> Vec<Pattern> {
    texts.iter().filter_map(|text| Pattern::parse(text).ok()).collect()
}

/// The bytes of the globs in JSON: in three rules, and for three lists of images.
fn json_bytes(patterns: &[Pattern]) -> usize {
    let bytes = |globs: Vec<String>| {
        let text = serde_json::to_string(&globs).unwrap();
        // Its brackets, and no comma behind the last.
        if globs.is_empty() { 0 } else { text.len() - 1 }
    };
    3 * bytes(patterns.iter().flat_map(Pattern::spellings).collect())
        + 3 * bytes(patterns.iter().flat_map(Pattern::pinned_spellings).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_cover_is_what_no_other_pattern_covers(
        some in proptest::collection::vec(any_pattern(), 0..12),
        more in proptest::collection::vec(any_pattern(), 0..12),
    ) {
        let all = parsed(&[some.clone(), more.clone()].concat());
        let is_covered = |p: &Pattern| all.iter().any(|other| other != p && other.covers(p));
        let mut expected: Vec<Pattern> = all.iter().filter(|p| !is_covered(p)).cloned().collect();
        expected.sort();
        expected.dedup();
        prop_assert_eq!(minimal(all.clone()), expected.clone());
        let some: Cover = parsed(&some).into_iter().collect();
        let more: Cover = parsed(&more).into_iter().collect();
        prop_assert_eq!(some.bytes_with(&more), json_bytes(&expected));
        let whole: Cover = all.clone().into_iter().collect();
        prop_assert_eq!(whole.bytes(), json_bytes(&expected));
        prop_assert!(all.iter().all(|pattern| whole.covers(pattern)));
    }

    #[test]
    fn globs_agree_with_the_oracle(
        pattern in name(),
        tree in any::<bool>(),
        image in name(),
        suffix in prop_oneof![Just(""), Just(":1"), Just("@D"), Just(":1@D")],
    ) {
        let image = format!("{image}{}", suffix.replace('D', DIGEST));
        let written = if tree { format!("{pattern}/*") } else { format!("{pattern}:*") };
        let Ok(parsed) = Pattern::parse(&written) else { return Ok(()) };
        let expected = if tree {
            let tree = parsed.to_string();
            repository(&image).starts_with(tree.trim_end_matches('*'))
        } else {
            repository(&image) == repository(&pattern)
        };
        prop_assert_eq!(skips(&written, &image), expected, "{} {}", written, image);
    }

    #[test]
    fn nothing_panics_and_normal_forms_are_stable(text in ".{0,40}|[a-z./:*@-]{0,30}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern));
        }
    }
}

#[test]
fn what_is_excluded_by_tag_is_found_with_a_digest_behind_it() {
    let pinned = |text: &str| Pattern::parse(text).unwrap().pinned_spellings();
    assert_eq!(pinned("quay.io/org/app:7.2"), ["quay.io/org/app:7.2@sha256:*"]);
    assert_eq!(
        pinned("redis:7*"),
        [
            "docker.io/library/redis:7*@sha256:*",
            "index.docker.io/library/redis:7*@sha256:*",
            "docker.io/redis:7*@sha256:*",
            "index.docker.io/redis:7*@sha256:*",
            "library/redis:7*@sha256:*",
            "redis:7*@sha256:*",
        ]
    );
    let digest = format!("quay.io/org/app@sha256:{}", "a".repeat(64));
    for other in ["quay.io/org/*", "quay.io/org/app:*", "quay.io/org/app", &digest] {
        assert_eq!(pinned(other), [""; 0], "{other}: its digest does not matter or is compared");
    }
}
