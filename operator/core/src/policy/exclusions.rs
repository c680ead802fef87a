//! Which exclusions of the cluster's lists count, so that no list makes the
//! policies larger than can be written.
//!
//! Each ring's rule repeats what the lists exclude, so what all of them weigh
//! together is bounded. Beyond that, what is in force stays in force, although the
//! room for what is new has become smaller, and what is new does not count: the gate
//! stays closed for it. What is in force is
//! read from the policies, so a restart changes nothing. They only say which
//! entries come first: nothing counts but what a list has. A list that is gone
//! because its kind is counts as it was last known ([`remembered`]).

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{expiry::time_left, packing::Room};
use crate::{
    images::{Cover, Pattern},
    ledger::Exclusion,
};

pub mod remembered;

/// An exclusion list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// What it excludes.
    pub exclusions: Vec<Exclusion>,
    /// Whether it is gone with its kind. One of the same name takes its place.
    pub remembered: bool,
}

/// What counts of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What counts, with the list of each, and what has expired.
    pub counting: Vec<(String, Exclusion)>,
    /// The lists of which something does not count.
    pub too_large: Vec<TooLarge>,
    /// The bytes of what counts, in each ring's rule.
    pub bytes: usize,
    /// The lists that are gone with their kind.
    pub remembered: Vec<String>,
    /// How long until the first exclusion that does not count expires, and so
    /// weighs nothing any more.
    pub until: Option<Duration>,
}

/// A list that is too large beside the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Its name.
    pub list: String,
    /// What does not count of it, and what nothing that counts covers.
    pub left_out: Vec<Exclusion>,
}

/// An exclusion, and its pattern unless it has expired and so weighs nothing.
type Entry = (Exclusion, Option<Pattern>);

/// Selects the exclusions that count. `in_force` gives the globs that the
/// policies have now; it is not called where all lists fit.
#[must_use]
pub fn select(
    mut lists: Vec<List>,
    room: Room,
    now: Timestamp,
    in_force: impl FnOnce() -> BTreeSet<String>,
) -> Selection {
    let there: BTreeSet<String> =
        lists.iter().filter(|list| !list.remembered).map(|list| list.name.clone()).collect();
    lists.retain(|list| !list.remembered || !there.contains(&list.name));
    let remembered = lists.iter().filter(|list| list.remembered).map(|list| list.name.clone());
    let remembered = remembered.collect::<BTreeSet<_>>().into_iter().collect();
    lists.sort_by_cached_key(|list| (list.created.unwrap_or(Timestamp::MAX), list.name.clone()));
    let entry = |exclusion: Exclusion| {
        let parsed = Pattern::parse(&exclusion.image).ok();
        let pattern = parsed.filter(|_| exclusion.counts(now));
        (exclusion, pattern)
    };
    let lists: Vec<(String, Vec<Entry>)> = lists
        .into_iter()
        .map(|list| (list.name, list.exclusions.into_iter().map(entry).collect()))
        .collect();
    let all: Cover = lists.iter().flat_map(|(_, entries)| patterns(entries)).cloned().collect();
    let chosen = if all.bytes() <= room.new { all } else { choose(&lists, room, &in_force()) };
    let mut selection = Selection { bytes: chosen.bytes(), remembered, ..Selection::default() };
    for (list, entries) in lists {
        let is_chosen =
            |entry: &Entry| entry.1.as_ref().is_none_or(|pattern| chosen.covers(pattern));
        let (counting, left_out): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_chosen);
        let counting = counting.into_iter().map(|(exclusion, _)| (list.clone(), exclusion));
        selection.counting.extend(counting);
        if !left_out.is_empty() {
            let left_out: Vec<_> = left_out.into_iter().map(|(exclusion, _)| exclusion).collect();
            let next = left_out.iter().filter_map(|exclusion| time_left(exclusion, now)).min();
            selection.until = selection.until.into_iter().chain(next).min();
            selection.too_large.push(TooLarge { list, left_out });
        }
    }
    selection
}

/// As much as fits: what is in force, one by one, then each list as a whole, both
/// by the lists' age.
fn choose(lists: &[(String, Vec<Entry>)], room: Room, in_force: &BTreeSet<String>) -> Cover {
    let is_in_force =
        |pattern: &Pattern| pattern.spellings().iter().all(|glob| in_force.contains(glob));
    let entries = lists.iter().flat_map(|(_, entries)| patterns(entries));
    let one_by_one = entries.filter(|p| is_in_force(p)).map(|p| [p.clone()].into_iter().collect());
    let as_a_whole = lists.iter().map(|(_, entries)| patterns(entries).cloned().collect());
    let mut chosen = Cover::default();
    let mut add = |more: Cover, room| {
        if chosen.bytes_with(&more) <= room {
            chosen.extend(more);
        }
    };
    one_by_one.for_each(|more| add(more, room.in_force));
    as_a_whole.for_each(|more| add(more, room.new));
    chosen
}

fn patterns(entries: &[Entry]) -> impl Iterator<Item = &Pattern> {
    entries.iter().filter_map(|(_, pattern)| pattern.as_ref())
}

#[cfg(test)]
mod tests;
