//! `docs/neighbours.md` names a test for each line, or says that it was only
//! read about; and no test of the neighbours is without a line.

use std::{collections::BTreeSet, fs, path::Path};

use signingkeyring_e2e_testbed::tools;

/// What a line says for want of a test.
const READ_ABOUT: &str = "read about";

/// The tests of a file, as the table names them.
fn tests_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let (mut tests, mut is_next) = (Vec::new(), false);
    for line in text.lines() {
        match line.strip_prefix("fn ").filter(|_| is_next) {
            Some(function) => {
                let function = function.split('(').next().unwrap_or_default();
                tests.push(format!("{name}: {function}"));
            }
            None => is_next = line == "#[test]",
        }
    }
    tests
}

fn tests_below(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => tests_below(&path),
            false if path.extension().is_some_and(|extension| extension == "rs") => tests_of(&path),
            false => Vec::new(),
        })
        .collect()
}

#[test]
fn each_line_names_its_test_and_each_test_has_a_line() {
    let root = tools::root();
    let text = fs::read_to_string(root.join("docs/neighbours.md")).unwrap();
    let all: BTreeSet<String> = tests_below(&root.join("e2e/tests")).into_iter().collect();
    let mut named = BTreeSet::new();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, _, _, seen] = cells[..] else { panic!("not four cells: {row}") };
        let tests: Vec<&str> = seen.split('`').skip(1).step_by(2).collect();
        assert!(tests.is_empty() == (seen == READ_ABOUT), "neither a test nor {READ_ABOUT}: {row}");
        for test in tests {
            assert!(all.contains(test), "there is no test {test}: {row}");
            named.insert(test.to_owned());
        }
    }
    let here = tests_below(&root.join("e2e/tests/e2e/neighbours"));
    let here = here.into_iter().filter(|test| !test.starts_with("table.rs"));
    let unnamed: Vec<_> = here.filter(|test| !named.contains(test)).collect();
    assert!(unnamed.is_empty(), "docs/neighbours.md has no line for {unnamed:?}");
    assert!(named.len() > 10, "only {named:?}");
}
