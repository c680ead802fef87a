//! The recipes for pipelines use the steps that are tried (`e2e/tests/e2e/ci.rs`), in their
//! order, and none that is not there.

use std::fs;

use serde_json::Value;

use super::manifests;

const RECIPES: [&str; 5] =
    ["Jenkinsfile", "azure-pipelines.yaml", "github-actions.yaml", "gitlab-ci.yaml", "tekton.yaml"];

#[test]
fn the_recipes_use_the_steps_that_are_tried() {
    let folder = manifests().join("../examples/ci");
    for recipe in RECIPES {
        let text = fs::read_to_string(folder.join(recipe)).unwrap();
        let used: Vec<&str> = text
            .split("ci/")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once(".sh")?.0))
            .filter(|name| name.chars().all(|c| c.is_ascii_lowercase()))
            .collect();
        // Tekton's Pod has its identity already.
        let wanted: &[&str] = match recipe {
            "tekton.yaml" => &["sign", "verify"],
            _ => &["login", "sign", "verify"],
        };
        assert_eq!(used, wanted, "{recipe}");
        for step in used {
            assert!(folder.join(format!("steps/{step}.sh")).is_file(), "{recipe}: {step}");
        }
        if recipe.ends_with(".yaml") {
            let parsed: Result<Value, _> = serde_saphyr::from_str(&text);
            assert!(parsed.is_ok(), "{recipe}: {parsed:?}");
        }
    }
}
