//! Hand-written exclusion lists.

use serde_json::{Value, json};

use crate::{
    batch::{Row, Wants},
    texts::{MARK, list, patterns, texts},
};

/// Every hand-written list. What is accepted has no condition of its own: its
/// entries are in the control ring's rule, and nothing else of it is.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, text) in texts().iter().enumerate() {
        let image = format!("quay.io/hostile-list-{index}/*");
        let images = json!([{"image": image, "reason": text, "owner": text}]);
        let object = list(&format!("text-{index}"), &images);
        rows.push(Row::new("list: free text", object, Wants::Excludes(image)));
    }
    for (index, pattern) in patterns().iter().enumerate().skip(1).step_by(2) {
        let images = json!([{"image": pattern, "reason": MARK}]);
        let object = list(&format!("pattern-{index}"), &images);
        rows.push(Row::new("list: widening or broken pattern", object, Wants::Refused("image")));
    }
    for name in ["A", "a_b", "", "{{x}}", "a/b"] {
        let object = list(name, &json!([]));
        rows.push(Row::new("list: name", object, Wants::Refused("name")));
    }
    let long = format!("{}.{}.{}.a", "l".repeat(63), "l".repeat(63), "l".repeat(63));
    let last = "quay.io/hostile-long/*".to_owned();
    let object = list(&long, &json!([{"image": last, "reason": MARK}]));
    rows.push(Row::new("list: name at the limits", object, Wants::Excludes(last)));
    rows.extend(sizes());
    rows
}

fn sizes() -> Vec<Row> {
    let entries = |count: usize| -> Vec<Value> {
        let entry = |n| json!({"image": format!("quay.io/hostile-many/{n}/*"), "reason": MARK});
        (0..count).map(entry).collect()
    };
    let class = "list: absurd size or type";
    let mut rows = vec![
        Row::new(
            class,
            list("many-301", &json!(entries(301))),
            Wants::Refused("must have at most"),
        ),
        Row::new(
            class,
            list("many-300", &json!(entries(300))),
            Wants::Excludes("quay.io/hostile-many/299/*".to_owned()),
        ),
    ];
    for (index, images) in [
        json!({}),
        json!("quay.io/x/*"),
        json!([null]),
        json!([7]),
        json!([{"image": "quay.io/x/*"}]),
        json!([{"image": "quay.io/x/*", "reason": "x".repeat(513)}]),
        json!([{"image": "quay.io/x/*", "reason": "x", "owner": "o".repeat(254)}]),
        json!([{"image": "quay.io/x/*", "reason": "x", "expires": "{{now}}"}]),
    ]
    .iter()
    .enumerate()
    {
        rows.push(Row::new(
            class,
            list(&format!("type-{index}"), images),
            Wants::Refused("images"),
        ));
    }
    rows
}
