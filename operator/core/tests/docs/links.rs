//! Every link of the pages leads somewhere, and every page of the book is in its summary.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The pages that are not in docs/.
const OTHERS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "manifests/chart/README.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The pages below a folder.
fn pages_in(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages_in(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// A page's lines without what is fenced or quoted as code.
fn prose(text: &str) -> impl Iterator<Item = String> {
    let mut is_fenced = false;
    text.lines().filter_map(move |line| {
        is_fenced ^= line.trim_start().starts_with("```");
        if is_fenced || line.starts_with("    ") {
            return None;
        }
        let outside: Vec<&str> = line.split('`').step_by(2).collect();
        Some(outside.concat())
    })
}

fn links(text: &str) -> Vec<String> {
    let ends = |rest: &str| rest.split(')').next().unwrap_or_default().to_owned();
    prose(text).flat_map(|line| line.split("](").skip(1).map(ends).collect::<Vec<_>>()).collect()
}

/// What a heading is called in a link.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_fenced = false;
    let headings = text.lines().filter(|line| {
        is_fenced ^= line.starts_with("```");
        !is_fenced && line.starts_with('#')
    });
    let slug = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(slug).collect()
}

/// What is wrong with a page's links.
fn broken(page: &Path, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for link in links(text) {
        if link.starts_with("https://") {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = match path {
            "" => page.to_owned(),
            path => page.parent().unwrap().join(path),
        };
        let wrong = if !target.exists() {
            true
        } else if anchor.is_empty() {
            false
        } else {
            !anchors(&fs::read_to_string(&target).unwrap()).contains(anchor)
        };
        if wrong {
            broken.push(format!("{}: {link}", page.display()));
        }
    }
    broken
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = OTHERS.map(|page| root().join(page)).to_vec();
    pages_in(&root().join("docs"), &mut pages);
    let broken: Vec<String> =
        pages.iter().flat_map(|page| broken(page, &fs::read_to_string(page).unwrap())).collect();
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = root().join("docs/conditions.md");
    let cases = [
        ("[x](nowhere.md)", true),
        ("[x](lost-keys.md#nowhere)", true),
        ("[x](#nowhere)", true),
        ("`[x](nowhere.md)`", false),
        ("[x](lost-keys.md)", false),
        ("[x](#policyenforced)", false),
        ("[x](https://example.org/nowhere)", false),
    ];
    for (text, is_broken) in cases {
        assert_eq!(!broken(&page, text).is_empty(), is_broken, "{text}");
    }
}

#[test]
fn every_page_is_in_the_book() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = links(&summary).iter().map(|link| docs.join(link)).collect();
    let mut pages = Vec::new();
    pages_in(&docs, &mut pages);
    let pages: BTreeSet<PathBuf> =
        pages.into_iter().filter(|page| page.file_name() != Some("SUMMARY.md".as_ref())).collect();
    assert_eq!(listed, pages);
}
