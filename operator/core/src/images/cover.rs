//! Sets of patterns of which none covers another, and what they weigh.

use std::collections::BTreeSet;

use super::{Pattern, What};

/// Patterns of which none covers another: what covered ones add is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    patterns: BTreeSet<Pattern>,
    bytes: usize,
}

impl Cover {
    /// Takes in a pattern, unless another one covers it, in the place of those
    /// that it covers.
    pub fn insert(&mut self, pattern: Pattern) {
        if self.covers(&pattern) {
            return;
        }
        let covered: Vec<Pattern> = self.covered_by(&pattern).cloned().collect();
        for other in &covered {
            self.patterns.remove(other);
            self.bytes -= bytes(other);
        }
        self.bytes += bytes(&pattern);
        self.patterns.insert(pattern);
    }

    /// Whether every image of a pattern is one of these patterns' too.
    #[must_use]
    pub fn covers(&self, pattern: &Pattern) -> bool {
        covering(pattern).any(|candidate| self.patterns.contains(&candidate))
    }

    /// The bytes of the globs that a ring's rules have for these patterns, as
    /// elements of lists in JSON.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What [`Self::bytes`] would be with the other patterns too.
    #[must_use]
    pub fn bytes_with(&self, other: &Self) -> usize {
        let new = || other.patterns.iter().filter(|pattern| !self.covers(pattern));
        let more: usize = new().map(bytes).sum();
        let less: usize = new().flat_map(|pattern| self.covered_by(pattern)).map(bytes).sum();
        self.bytes + more - less
    }

    fn covered_by<'a>(&'a self, pattern: &'a Pattern) -> impl Iterator<Item = &'a Pattern> {
        // What shares a beginning is neighbours in order.
        let first = with(pattern, &pattern.path, What::Tree);
        self.patterns
            .range(first..)
            .take_while(|other| {
                other.host == pattern.host
                    && if pattern.what == What::Tree {
                        other.path.starts_with(&pattern.path)
                    } else {
                        other.path == pattern.path
                    }
            })
            .filter(|other| pattern.covers(other))
    }
}

impl IntoIterator for Cover {
    type Item = Pattern;
    type IntoIter = std::collections::btree_set::IntoIter<Pattern>;

    /// In order.
    fn into_iter(self) -> Self::IntoIter {
        self.patterns.into_iter()
    }
}

impl Extend<Pattern> for Cover {
    fn extend<T: IntoIterator<Item = Pattern>>(&mut self, patterns: T) {
        patterns.into_iter().for_each(|pattern| self.insert(pattern));
    }
}

impl FromIterator<Pattern> for Cover {
    fn from_iter<T: IntoIterator<Item = Pattern>>(patterns: T) -> Self {
        let mut cover = Self::default();
        cover.extend(patterns);
        cover
    }
}

/// Sorts patterns and drops those that another one covers.
#[must_use]
pub fn minimal(patterns: Vec<Pattern>) -> Vec<Pattern> {
    patterns.into_iter().collect::<Cover>().into_iter().collect()
}

/// All patterns that cover one, itself among them.
fn covering(pattern: &Pattern) -> impl Iterator<Item = Pattern> {
    let path = pattern.path.as_str();
    let above = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
    let trees = [""].into_iter().chain(above).map(|path| with(pattern, path, What::Tree));
    let repository = (pattern.what != What::Tree).then(|| with(pattern, path, What::Repository));
    let tag = match &pattern.what {
        What::Tag(tag) | What::TagPrefix(tag) => tag.as_str(),
        What::Tree | What::Repository | What::Digest(_) => "",
    };
    let prefixes = tag.char_indices().filter_map(|(at, c)| tag.get(..at + c.len_utf8()));
    let prefixes = prefixes.map(|tag| with(pattern, path, What::TagPrefix(tag.to_owned())));
    [pattern.clone()].into_iter().chain(repository).chain(trees).chain(prefixes)
}

fn with(pattern: &Pattern, path: &str, what: What) -> Pattern {
    Pattern { host: pattern.host.clone(), path: path.to_owned(), what }
}

fn bytes(pattern: &Pattern) -> usize {
    // With two quotes and a comma; no character of a pattern is escaped.
    let bytes = |globs: Vec<String>| globs.iter().map(|glob| glob.len() + 3).sum::<usize>();
    VERIFYING_RULES * bytes(pattern.spellings()) + IMAGE_LISTS * bytes(pattern.pinned_spellings())
}

/// How many of a ring's rules skip what is excluded: for Pods, for those that may
/// be scheduled from now on, and for ephemeral containers.
const VERIFYING_RULES: usize = 3;

/// How many lists of images a Pod has, each of which is compared with what is
/// excluded by tag.
const IMAGE_LISTS: usize = 3;
