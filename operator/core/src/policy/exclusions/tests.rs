use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn exclusion(image: &str) -> Exclusion {
    Exclusion { image: image.to_owned(), expires: None }
}

/// A list that was created this many seconds ago.
fn list(name: &str, age: i64, images: &[&str]) -> List {
    let created = Timestamp::from_second(now().as_second() - age).unwrap();
    let exclusions = images.iter().map(|image| exclusion(image)).collect();
    List { name: name.to_owned(), created: Some(created), exclusions, remembered: false }
}

/// No more for what is in force than for what is new.
fn room(bytes: usize) -> Room {
    Room { new: bytes, in_force: bytes }
}

/// What counts, without what something else covers.
fn cover(selection: &Selection) -> Cover {
    let counting = selection.counting.iter().filter(|(_, exclusion)| exclusion.counts(now()));
    counting.map(|(_, exclusion)| Pattern::parse(&exclusion.image).unwrap()).collect()
}

/// The globs of what counts, as the policies have them.
fn globs(selection: &Selection) -> BTreeSet<String> {
    cover(selection).into_iter().flat_map(|pattern| pattern.spellings()).collect()
}

/// The bytes of globs in JSON, without brackets and with a comma behind each.
fn json_bytes(globs: impl IntoIterator<Item = String>) -> usize {
    globs.into_iter().map(|glob| serde_json::to_string(&glob).unwrap().len() + 1).sum()
}

fn counting(selection: &Selection) -> Vec<&str> {
    let mut images: Vec<&str> = selection.counting.iter().map(|(_, e)| e.image.as_str()).collect();
    images.sort_unstable();
    images
}

fn too_large(selection: &Selection) -> Vec<(&str, usize)> {
    let lists = selection.too_large.iter();
    lists.map(|list| (list.list.as_str(), list.left_out.len())).collect()
}

/// `"quay.io/a/1:x",` in three rules, `"quay.io/a/1:x@sha256:*",` for three lists.
const WEIGHT: usize = 3 * 16 + 3 * 25;

/// `"quay.io/a/*",` in three rules.
const TREE: usize = 3 * 14;

fn in_force(images: &[&str]) -> BTreeSet<String> {
    images.iter().map(|image| (*image).to_owned()).collect()
}

#[test]
fn where_all_fits_all_counts_and_nobody_looks_at_the_policies() {
    let lists = vec![
        list("a", 2, &["quay.io/a/1:x", "quay.io/a/2:x"]),
        // What another entry covers weighs nothing.
        list("b", 1, &["quay.io/b/*", "quay.io/b/3:x"]),
    ];
    let selection = select(lists, room(2 * WEIGHT + TREE), now(), || panic!("no need"));
    assert_eq!(selection.counting.len(), 4);
    assert_eq!(selection.bytes, 2 * WEIGHT + TREE);
    assert!(selection.too_large.is_empty());
}

#[test]
fn the_list_that_is_too_much_does_not_count_as_a_whole_and_the_younger_may() {
    let lists = || {
        vec![
            list("young", 1, &["quay.io/y/1:x"]),
            list("big", 2, &["quay.io/b/1:x", "quay.io/b/2:x", "quay.io/b/3:x"]),
            list("good", 3, &["quay.io/a/1:x"]),
        ]
    };
    let selection = select(lists(), room(3 * WEIGHT), now(), BTreeSet::new);
    assert_eq!(counting(&selection), ["quay.io/a/1:x", "quay.io/y/1:x"]);
    assert_eq!(too_large(&selection), [("big", 3)]);
    assert_eq!(selection.bytes, 2 * WEIGHT);
    // A restart changes nothing.
    assert_eq!(select(lists(), room(3 * WEIGHT), now(), || globs(&selection)), selection);
    // Of lists of one age the name decides, and one without an age comes last.
    let mut same = vec![list("b", 1, &["quay.io/b/1:x"]), list("a", 1, &["quay.io/a/1:x"])];
    same.push(List { created: None, ..list("0", 1, &["quay.io/0/1:x"]) });
    let selection = select(same, room(WEIGHT), now(), BTreeSet::new);
    assert_eq!(too_large(&selection), [("b", 1), ("0", 1)]);
}

#[test]
fn what_is_in_force_stays_whatever_the_lists_ages() {
    let lists = vec![
        list("old", 9, &["quay.io/o/1:x", "quay.io/o/2:x", "quay.io/o/3:x"]),
        list("grown", 1, &["quay.io/g/1:x", "quay.io/g/2:x", "quay.io/g/3:x"]),
    ];
    let before = || in_force(&["quay.io/g/1:x", "quay.io/g/2:x", "quay.io/o/2:x"]);
    let selection = select(lists, room(3 * WEIGHT), now(), before);
    assert_eq!(counting(&selection), ["quay.io/g/1:x", "quay.io/g/2:x", "quay.io/o/2:x"]);
    assert_eq!(too_large(&selection), [("old", 2), ("grown", 1)]);
}

/// Rules came to weigh more, or more rings are to share a policy.
#[test]
fn what_is_in_force_stays_where_the_room_for_what_is_new_became_smaller() {
    let lists = || {
        vec![
            list("a", 2, &["quay.io/a/1:x", "quay.io/a/2:x", "quay.io/a/3:x"]),
            list("b", 1, &["quay.io/b/1:x"]),
        ]
    };
    let before = || in_force(&["quay.io/a/1:x", "quay.io/a/2:x"]);
    let room = Room { new: WEIGHT, in_force: 9 * WEIGHT };
    let selection = select(lists(), room, now(), before);
    assert_eq!(counting(&selection), ["quay.io/a/1:x", "quay.io/a/2:x"]);
    assert_eq!(too_large(&selection), [("a", 1), ("b", 1)]);
    let room = Room { in_force: WEIGHT, ..room };
    let selection = select(lists(), room, now(), before);
    assert_eq!(counting(&selection), ["quay.io/a/1:x"], "one ring has to fit into a policy");
}

#[test]
fn what_a_policy_says_adds_nothing() {
    let lists = || vec![list("a", 2, &["quay.io/a/1:x"]), list("b", 1, &["quay.io/b/1:x"])];
    let foreign = || in_force(&["*", "quay.io/*", "quay.io/c/1:x", "quay.io/b/1:x"]);
    let selection = select(lists(), room(WEIGHT), now(), foreign);
    assert_eq!(counting(&selection), ["quay.io/b/1:x"]);
    // An entry that was taken out is gone at once.
    let selection = select(lists().split_off(1), room(0), now(), foreign);
    assert_eq!(counting(&selection), [""; 0]);
    let selection = select(vec![lists().remove(0)], room(WEIGHT), now(), foreign);
    assert_eq!(counting(&selection), ["quay.io/a/1:x"]);
}

#[test]
fn a_remembered_list_counts_until_one_of_its_name_is_back() {
    let gone = |name, images| List { remembered: true, ..list(name, 9, images) };
    let lists = vec![gone("a", &["quay.io/a/1:x"]), gone("b", &["quay.io/b/1:x"])];
    let selection = select(lists.clone(), room(10 * WEIGHT), now(), BTreeSet::new);
    assert_eq!(counting(&selection), ["quay.io/a/1:x", "quay.io/b/1:x"]);
    assert_eq!(selection.remembered, ["a", "b"]);
    // What it says now counts, and not what it said.
    let back = [lists, vec![list("a", 1, &["quay.io/a/2:x"])]].concat();
    let selection = select(back, room(10 * WEIGHT), now(), BTreeSet::new);
    assert_eq!(counting(&selection), ["quay.io/a/2:x", "quay.io/b/1:x"]);
    assert_eq!(selection.remembered, ["b"]);
}

#[test]
fn where_the_limit_was_lowered_the_oldest_of_what_is_in_force_counts() {
    let lists = vec![
        list("young", 1, &["quay.io/y/1:x", "quay.io/y/2:x"]),
        list("old", 2, &["quay.io/o/1:x", "quay.io/o/2:x"]),
    ];
    let before = || in_force(&["quay.io/y/1:x", "quay.io/y/2:x", "quay.io/o/1:x", "quay.io/o/2:x"]);
    let selection = select(lists, room(3 * WEIGHT), now(), before);
    assert_eq!(counting(&selection), ["quay.io/o/1:x", "quay.io/o/2:x", "quay.io/y/1:x"]);
    assert_eq!(too_large(&selection), [("young", 1)]);
}

#[test]
fn a_tree_in_the_place_of_what_is_below_it_is_never_too_much() {
    let lists = vec![
        list("a", 2, &["quay.io/a/1:x", "quay.io/a/2:x", "quay.io/a/3:x"]),
        list("b", 1, &["quay.io/a/*"]),
    ];
    let before = || in_force(&["quay.io/a/1:x", "quay.io/a/2:x"]);
    let selection = select(lists, room(2 * WEIGHT), now(), before);
    assert_eq!(selection.bytes, TREE);
    assert!(selection.too_large.is_empty());
}

#[test]
fn what_has_expired_weighs_nothing_and_is_still_told_of() {
    let mut old = list("a", 2, &["quay.io/a/1:x", "quay.io/a/2:x"]);
    old.exclusions[0].expires = Some(date(2026, 11, 24));
    let selection =
        select(vec![old, list("b", 1, &["quay.io/b/1:x"])], room(2 * WEIGHT), now(), || {
            panic!("no need")
        });
    assert_eq!(counting(&selection), ["quay.io/a/1:x", "quay.io/a/2:x", "quay.io/b/1:x"]);
    assert_eq!(selection.bytes, 2 * WEIGHT);
    assert_eq!(selection.until, None);
}

#[test]
fn what_does_not_count_is_looked_at_again_when_some_of_it_expires() {
    let mut big = list("a", 2, &["quay.io/a/1:x", "quay.io/a/2:x", "quay.io/a/3:x"]);
    big.exclusions[1].expires = Some(date(2026, 11, 26));
    big.exclusions[2].expires = Some(date(2026, 11, 25));
    let selection = select(vec![big], room(WEIGHT), now(), BTreeSet::new);
    assert_eq!(too_large(&selection), [("a", 3)]);
    assert_eq!(selection.until, Some(Duration::from_secs(12 * 3600)));
}

#[test]
fn thousands_of_entries_are_selected_in_no_time() {
    let images = |list: usize| -> Vec<String> {
        (0..300).map(|n| format!("quay.io/{}/{list}/{n}:x", "a".repeat(200))).collect()
    };
    let lists: Vec<List> = (0..100)
        .map(|n| {
            let images = images(n);
            list(&n.to_string(), 1, &images.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let start = std::time::Instant::now();
    let selection = select(lists, room(896 * 1024), now(), BTreeSet::new);
    assert!(selection.bytes > 600 * 1024 && selection.too_large.len() > 80);
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

fn images() -> impl Strategy<Value = Vec<String>> {
    let image = "quay\\.io/(a|b)/([12]|\\*)|busybox(:1\\*?)?|quay\\.io/c(:[1-3]|:\\*)";
    proptest::collection::vec(image, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_limit_holds_and_what_was_selected_is_selected_again(
        contents in proptest::collection::vec(images(), 0..5),
        new in 0_usize..1000,
        more in 0_usize..1000,
        before in images(),
    ) {
        let room = Room { new, in_force: new + more };
        let lists: Vec<List> = contents
            .iter()
            .enumerate()
            .map(|(n, images)| {
                let images: Vec<&str> = images.iter().map(String::as_str).collect();
                list(&n.to_string(), i64::try_from(n).unwrap() % 3, &images)
            })
            .collect();
        let before = Selection {
            counting: before.iter().map(|image| (String::new(), exclusion(image))).collect(),
            ..Selection::default()
        };
        let first = select(lists.clone(), room, now(), || globs(&before));
        prop_assert!(first.bytes <= room.in_force);
        let was = globs(&before);
        let is_new = |(_, entry): &(String, Exclusion)| {
            let spellings = Pattern::parse(&entry.image).unwrap().spellings();
            !spellings.iter().all(|glob| was.contains(glob))
        };
        let is_covered = |entry: &(String, Exclusion)| {
            let others: Cover = first.counting.iter().filter(|other| !is_new(other))
                .map(|(_, other)| Pattern::parse(&other.image).unwrap()).collect();
            others.covers(&Pattern::parse(&entry.1.image).unwrap())
        };
        let grew = first.counting.iter().any(|entry| is_new(entry) && !is_covered(entry));
        prop_assert!(!grew || first.bytes <= room.new);
        let pinned = cover(&first).into_iter().flat_map(|pattern| pattern.pinned_spellings());
        prop_assert_eq!(first.bytes, 3 * json_bytes(globs(&first)) + 3 * json_bytes(pinned));
        let left_out: usize = first.too_large.iter().map(|list| list.left_out.len()).sum();
        prop_assert_eq!(first.counting.len() + left_out, contents.concat().len());
        // Nothing that counts is given up afterwards.
        let second = select(lists, room, now(), || globs(&first));
        let kept = first.counting.iter().all(|entry| second.counting.contains(entry));
        prop_assert!(kept, "{:?}\n{:?}", first, second);
    }
}
