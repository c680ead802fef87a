//! Hostile patterns and near-miss images: what is rendered is inert text, and
//! skips no image that the pattern does not mean.

use super::{
    oracle::{excludes, glob, is_reference, kyvernos_string, means},
    *,
};

/// Whether a glob is of the only shape that a policy may hold: host, path and
/// a tag, digest or `*` at the end; nothing a template or YAML could read.
fn is_inert(glob: &str) -> bool {
    let body = glob.strip_suffix('*').unwrap_or(glob);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    body.chars().all(plain)
        && body.contains('/')
        && !body[..body.rfind([':', '@']).unwrap_or(body.len())].contains("..")
        && !body.contains("//")
        && body.split_once('/').is_some_and(|(host, _)| {
            host.contains('.') || host.contains(':') || host == "localhost"
        })
        && (body.len() == glob.len() || body.ends_with(['/', ':', '@']) || {
            let last = body.rsplit('/').next().unwrap_or_default();
            last.contains(':')
        })
}

/// What people and attackers put between the parts of an image.
const PARTS: [&str; 34] = [
    "quay.io",
    "docker.io",
    "index.docker.io",
    "localhost",
    "evil.example",
    "[::1]:5000",
    "quay.io.",
    "QUAY.io",
    "quay.io:443",
    "quay.io:0443",
    "org",
    "app",
    "library",
    "redis",
    "org%2fapp",
    "..",
    ".",
    "",
    "a_b",
    "a__b",
    "a___b",
    "a--b",
    "-",
    "{{",
    "$(x)",
    "'",
    "\n",
    "ä",
    "*",
    "?",
    "1.2",
    "latest",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "x.y",
];

fn hostile_text() -> impl Strategy<Value = String> {
    let part = proptest::sample::select(&PARTS[..]);
    let joint = proptest::sample::select(&["/", "/", "/", ":", "@", ".", "", ":*", "/*"][..]);
    proptest::collection::vec((part, joint), 1..5).prop_map(|parts| {
        parts.iter().map(|(part, joint)| format!("{part}{joint}")).collect::<String>()
    })
}

pub fn good_pattern() -> impl Strategy<Value = String> {
    let host = proptest::sample::select(
        &[
            "",
            "",
            "docker.io/",
            "index.docker.io/",
            "quay.io/",
            "localhost:5000/",
            "a.b-c.d:65535/",
        ][..],
    );
    let path = "[a-z0-9]{1,3}(/[a-z0-9]{1,3}([._-][a-z0-9]{1,2})?){0,2}|library/[a-z]{1,2}";
    let end =
        proptest::sample::select(&["", ":*", "/*", ":1", ":1.*", ":v1_a-*", "@D", ":1@D"][..]);
    (host, path, end)
        .prop_map(|(host, path, end)| format!("{host}{path}{}", end.replace('D', DIGEST)))
}

/// An image near to those of a pattern: as it is written, less its wildcard,
/// and changed in one or two places.
pub fn near(pattern: &str, changes: &[(usize, usize)]) -> String {
    const INSERTED: [&str; 22] = [
        "",
        "/",
        ":",
        "@",
        ".",
        "-",
        "_",
        "a",
        "A",
        "%2f",
        "..",
        "../",
        "[::1]",
        ":5000/",
        "evil.example/",
        "docker.io/",
        "index.docker.io/",
        "library/",
        "-evil",
        ":1",
        ":latest",
        "/x",
    ];
    let mut image: Vec<char> = pattern.trim_end_matches('*').chars().collect();
    for (place, what) in changes {
        let at = place % (image.len() + 1);
        let inserted = INSERTED[what % INSERTED.len()];
        if inserted.is_empty() && at < image.len() {
            image.remove(at);
        }
        image.splice(at..at, inserted.chars());
    }
    image.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1_000_000, ..ProptestConfig::with_cases(8192) })]

    #[test]
    fn what_is_rendered_is_inert(text in prop_oneof![hostile_text(), good_pattern(), ".{0,60}"]) {
        let Ok(pattern) = Pattern::parse(&text) else { return Ok(()) };
        for glob in pattern.spellings() {
            prop_assert!(is_inert(&glob), "{text:?} is rendered as {glob:?}");
        }
        let resolved = pattern.resolved();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@*".contains(c);
        prop_assert!(resolved.chars().all(plain), "{text:?} is rendered as {resolved:?}");
        prop_assert_eq!(Pattern::of_resolved(&resolved), Some(pattern.clone()));
        prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern));
    }

    #[test]
    fn what_is_read_as_resolved_was_written_so(
        text in prop_oneof![hostile_text(), good_pattern(), ".{0,60}"],
    ) {
        if let Some(pattern) = Pattern::of_resolved(&text) {
            prop_assert_eq!(pattern.resolved(), text);
        }
    }

    /// In an ImageValidatingPolicy: what is meant and nothing else.
    #[test]
    fn what_is_compared_when_resolved_is_what_is_meant(
        pattern in good_pattern(),
        changes in proptest::collection::vec((any::<usize>(), any::<usize>()), 0..3),
        end in proptest::sample::select(&["", "", "x", "a/b", ":1", ":1.2", "@D", ":1@D"][..]),
    ) {
        let Ok(parsed) = Pattern::parse(&pattern) else { return Ok(()) };
        let written = near(&pattern, &changes);
        let image = format!("{}{}", written.trim_end_matches(':'), end.replace('D', DIGEST));
        // What does not have one reading is refused, whatever is excluded.
        prop_assume!(is_reference(&image) && !image.contains(|c: char| c.is_ascii_uppercase()));
        // One that go-containerregistry takes for too short is refused, too.
        let name = repository(&image);
        let path = name.split_once('/').map_or("", |(_, path)| path);
        let is_short = path.strip_prefix("library/").unwrap_or(path).len() < 2;
        let resolved = parsed.resolved();
        let excluded = excludes(&resolved, &image);
        prop_assert!(!excluded || means(&pattern, &image), "{pattern} excludes {image}");
        prop_assert!(
            excluded || is_short || !means(&pattern, &image),
            "{pattern} misses {image}, compared as {resolved}"
        );
    }

    #[test]
    fn no_near_miss_is_skipped(
        pattern in good_pattern(),
        changes in proptest::collection::vec((any::<usize>(), any::<usize>()), 0..3),
    ) {
        let Ok(parsed) = Pattern::parse(&pattern) else { return Ok(()) };
        let image = near(&pattern, &changes);
        prop_assume!(is_reference(&image));
        let compared = kyvernos_string(&image);
        let skipped = parsed.spellings().iter().any(|spelling| glob(spelling, &compared));
        prop_assert!(
            !skipped || means(&pattern, &image),
            "{pattern} skips {image}, which Kyverno compares as {compared}"
        );
    }

    /// The other half: the images that are meant are skipped.
    #[test]
    fn what_is_meant_is_skipped(
        pattern in good_pattern(),
        changes in proptest::collection::vec((any::<usize>(), any::<usize>()), 0..2),
        end in proptest::sample::select(&["", "x", "a/b", ":1", ":1.2", "@D", ":1@D"][..]),
    ) {
        let Ok(parsed) = Pattern::parse(&pattern) else { return Ok(()) };
        let written = near(&pattern, &changes);
        let image = format!("{}{}", written.trim_end_matches(':'), end.replace('D', DIGEST));
        prop_assume!(is_reference(&image) && means(&pattern, &image));
        let compared = kyvernos_string(&image);
        prop_assert!(
            parsed.spellings().iter().any(|spelling| glob(spelling, &compared)),
            "{pattern} misses {image}, which Kyverno compares as {compared}"
        );
    }
}

#[test]
fn the_checks_can_fail() {
    for bad in ["quay.io/a{{x}}:*", "*", "quay.io*", "quay.io/a/../b:*", "a/b:*", "quay.io/a\n:*"] {
        assert!(!is_inert(bad), "{bad}");
    }
    assert!(!means("quay.io/a/*", "quay.io/a-evil/x") && !means("redis:*", "evil/redis"));
    for good in ["redis", "quay.io:443/a/b:1", "[::1]:5000/x", "QUAY.io/a", "a__b/c-d"] {
        assert!(is_reference(good), "{good}");
    }
    for bad in ["a/../b", "quay.io./a", "a/B", "a%2fb", "quay.io/a:1/b", "a:", "quay.io/a@x", "/a"]
    {
        assert!(!is_reference(bad), "{bad}");
    }
    assert!(means("redis:*", "index.docker.io/library/redis@sha256:0") && means("a/*", "a/b"));
    assert!(means("docker.io/*", "redis") && means("docker.io/*", "a/b"));
    assert!(excludes("quay.io/a/", "quay.io/a/b") && !excludes("quay.io/a/", "quay.io/ab/b"));
    assert!(!excludes("quay.io/aa", "quay.io/ab") && excludes("quay.io/aa:1*", "quay.io/aa:12"));
    assert!(glob("quay.io/a?*:1", "quay.io/ab/c:1") && !glob("quay.io/a*", "x.quay.io/ab"));
}
