//! Whether a pattern excludes an image, against what is rendered of the pattern.

use super::{
    hostile::{good_pattern, near},
    oracle::{excludes, glob, is_reference, kyvernos_string, repository},
    *,
};
use crate::policy_ref::PolicyKind::{ClusterPolicy, ImageValidatingPolicy};

fn excluded(pattern: &str, image: &str) -> [Excluded; 2] {
    let (pattern, image) = (Pattern::parse(pattern).unwrap(), Image::parse(image).unwrap());
    [ClusterPolicy, ImageValidatingPolicy].map(|kind| pattern.excludes(kind, &image))
}

#[test]
fn a_tag_beside_a_digest_counts_for_one_kind_and_while_it_points_there() {
    let pinned = format!("redis:7.2@{DIGEST}");
    assert_eq!(excluded("redis:7.2", "docker.io/redis:7.2"), [Excluded::Yes; 2]);
    assert_eq!(excluded("redis:7.*", &pinned), [Excluded::WhileTagStands, Excluded::No]);
    assert_eq!(excluded("redis:7.3", &pinned), [Excluded::No; 2]);
    assert_eq!(excluded("redis:7.2", &format!("redis@{DIGEST}")), [Excluded::No; 2]);
    assert_eq!(excluded("redis", &pinned), [Excluded::Yes; 2]);
    assert_eq!(excluded("redis:latest", "library/redis"), [Excluded::Yes; 2]);
}

#[test]
fn images_in_their_normal_form() {
    for (text, normal) in [
        ("busybox", "docker.io/library/busybox"),
        ("index.docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("library/busybox/x", "docker.io/library/busybox/x"),
        ("localhost/a", "localhost/a"),
        ("quay.io:00443/a-b/c__d:V1", "quay.io:00443/a-b/c__d:V1"),
        (&format!("quay.io/a:1@{DIGEST}"), &format!("quay.io/a:1@{DIGEST}")),
    ] {
        assert_eq!(Image::parse(text).unwrap().to_string(), normal, "{text}");
    }
    for text in
        ["", "a/B", "quay.io./a", "QUAY.io/a", "a@sha256:00", "a:", "[::1]/a", "a b", "a:1:2"]
    {
        assert_eq!(Image::parse(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1_000_000, ..ProptestConfig::with_cases(8192) })]

    #[test]
    fn what_is_excluded_is_what_is_rendered(
        pattern in good_pattern(),
        changes in proptest::collection::vec((any::<usize>(), any::<usize>()), 0..3),
        end in proptest::sample::select(&["", "", "x", "a/b", ":1", ":1.2", "@D", ":1@D"][..]),
    ) {
        let Ok(parsed) = Pattern::parse(&pattern) else { return Ok(()) };
        let written = near(&pattern, &changes);
        let text = format!("{}{}", written.trim_end_matches(':'), end.replace('D', DIGEST));
        let Some(image) = Image::parse(&text) else { return Ok(()) };
        prop_assert!(is_reference(&text), "{text} is no reference");
        let is_skipped = |globs: &[String], text: &str| globs.iter().any(|g| glob(g, text));
        let expected = if is_skipped(&parsed.spellings(), &kyvernos_string(&text)) {
            Excluded::Yes
        } else if is_skipped(&parsed.pinned_spellings(), &text) {
            Excluded::WhileTagStands
        } else {
            Excluded::No
        };
        prop_assert_eq!(parsed.excludes(ClusterPolicy, &image), expected, "{} {}", pattern, text);
        // What go-containerregistry takes for too short is refused.
        let name = repository(&text);
        let path = name.split_once('/').map_or("", |(_, path)| path);
        prop_assume!(path.strip_prefix("library/").unwrap_or(path).len() >= 2);
        let expected = excludes(&parsed.resolved(), &text);
        let seen = parsed.excludes(ImageValidatingPolicy, &image);
        prop_assert_eq!(seen == Excluded::Yes, expected, "{} {}", pattern, text);
        prop_assert!(seen != Excluded::WhileTagStands);
    }

    /// What everybody reads in the same way is read here, too.
    #[test]
    fn references_are_images(text in "[a-z0-9]{1,3}([./:_-]{1,2}[a-z0-9]{1,3}){0,5}") {
        prop_assert_eq!(Image::parse(&text).is_some(), is_reference(&text), "{}", text);
    }
}
