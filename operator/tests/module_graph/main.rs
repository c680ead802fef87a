//! The modules of every crate of this workspace form no circle.
//!
//! The rule is checked folder by folder: of the modules that lie side by side,
//! each together with everything below it, none may lead back to itself. So
//! `plan/mint.rs` using `report/keys.rs` is an edge from `plan` to `report`,
//! and one between two files of `plan/` is an edge within `plan`.
//!
//! What does not count: a module and those below it are one thing seen from
//! outside, so a parent may use its children and they its items. What a
//! parent merely imports or exports belongs to where it is defined. Code
//! under `cfg(test)` is left out. A method that is called on a value leaves no
//! path behind and is not seen; the type it is called on was named somewhere.
#![expect(clippy::unwrap_used, clippy::panic, reason = "clippy only knows the tests themselves")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

mod circles;
mod references;
mod tree;

use circles::circles;
use tree::Tree;

/// One root file of a crate of the workspace: a library or a binary.
struct Target {
    package: String,
    name: String,
    root: PathBuf,
}

/// The libraries and binaries of the workspace's members, as Cargo sees them.
fn targets() -> (PathBuf, Vec<Target>) {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut targets = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for target in package["targets"].as_array().unwrap() {
            let kinds = target["kind"].as_array().unwrap();
            if kinds.iter().any(|kind| kind == "lib" || kind == "bin") {
                targets.push(Target {
                    package: text(&package["name"]),
                    name: text(&target["name"]),
                    root: text(&target["src_path"]).into(),
                });
            }
        }
    }
    (text(&metadata["workspace_root"]).into(), targets)
}

#[test]
fn no_module_of_the_workspace_leads_back_to_itself() {
    let (workspace, targets) = targets();
    let mut found = String::new();
    let mut modules = 0;
    for Target { package, name, root } in &targets {
        let tree = Tree::read(root, &|file| std::fs::read_to_string(file).ok());
        modules += tree.len();
        for circle in circles(&tree) {
            found += &format!("\n{package} ({name}): {}", circle.describe(&workspace));
        }
    }
    assert!(targets.len() > 3 && modules > 100, "read {modules} modules of {}", targets.len());
    assert!(found.is_empty(), "modules in a circle:\n{found}");
}

/// A crate that exists only here, from the texts of its files.
fn made_up(files: &[(&str, &str)]) -> Vec<String> {
    let files: BTreeMap<&Path, &str> =
        files.iter().map(|(name, text)| (Path::new(*name), *text)).collect();
    let tree =
        Tree::read(Path::new("lib.rs"), &|file| files.get(file).map(|text| (*text).to_owned()));
    assert_eq!(tree.len(), files.len(), "every file belongs to the crate");
    circles(&tree).iter().map(|circle| circle.describe(Path::new(""))).collect()
}

#[test]
fn two_files_that_use_each_other_are_a_circle_and_named() {
    let found = made_up(&[
        ("lib.rs", "mod plan; mod report;"),
        ("plan.rs", "use crate::report::Report; pub struct Plan(Report);"),
        ("report.rs", "pub struct Report; fn f() { let _ = crate::plan::Plan; }"),
    ]);
    let [circle] = &found[..] else { panic!("{found:?}") };
    for part in
        ["plan -> report -> plan", "plan.rs: crate::report::Report", "report.rs: crate::plan::Plan"]
    {
        assert!(circle.contains(part), "{circle}");
    }
}

#[test]
fn a_circle_through_folders_three_modules_and_a_macro_is_found() {
    let found = made_up(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "mod below;"),
        ("a/below.rs", "fn f(x: super::super::b::Thing) {}"),
        ("b.rs", "use crate::c; pub struct Thing; fn g() { println!(\"{}\", c::one()) }"),
        ("c.rs", "mod below; pub fn one() -> u32 { 1 }"),
        ("c/below.rs", "#[derive(Debug)] struct S; fn h() { vec![crate::a::X]; }"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("a -> b -> c -> a"), "{found:?}");
}

#[test]
fn siblings_in_a_folder_are_judged_as_well() {
    let found = made_up(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod one; mod two;"),
        ("a/one.rs", "use super::two::Two; pub struct One;"),
        ("a/two.rs", "use super::one::One; pub struct Two;"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("crate::a: one -> two -> one"), "{found:?}");
}

#[test]
fn what_a_parent_exports_leads_to_where_it_is_defined() {
    let found = made_up(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod one; mod two; pub use one::One as Uno; use two::*;"),
        ("a/one.rs", "pub struct One; use super::Two;"),
        ("a/two.rs", "pub struct Two; fn f(_: super::Uno) {}"),
        ("b.rs", "use crate::a::Uno;"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("crate::a: one -> two -> one"), "{found:?}");
}

#[test]
fn names_that_come_with_a_glob_lead_to_where_they_are_defined() {
    let found = made_up(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod one; mod two; use one::One;"),
        ("a/one.rs", "use super::two::Two; pub struct One;"),
        ("a/two.rs", "use super::*; pub struct Two(One);"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_tree_without_a_circle_passes() {
    let found = made_up(&[
        ("lib.rs", "pub mod a; pub mod b; pub use a::{self as alpha, below::Below}; use b::B;"),
        // A parent uses its children, and they its items.
        ("a.rs", "pub mod below; pub use below::Below; pub struct A(Below);"),
        ("a/below.rs", "use super::A; pub struct Below; fn f(a: A, b: crate::b::B) {}"),
        ("b.rs", "use std::fmt; pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
    ]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn tests_and_words_that_only_look_like_modules_do_not_count() {
    let found = made_up(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B;"),
        (
            "b.rs",
            "pub struct B; #[cfg(test)] use crate::a; #[cfg(test)] fn f() { crate::a::g() }
             impl B { #[cfg(test)] fn h() { crate::a::g() } }
             /// See [`crate::a`].
             fn i(a: u32) -> u32 { let text = \"crate::a\"; a + text.len() as u32 }",
        ),
    ]);
    assert_eq!(found, Vec::<String>::new());
}
