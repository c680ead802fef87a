//! Who is worked on next: first what is urgent, then what is to be soon, then what is
//! under way, then the rest, each in the order in which it came. What is to be soon may
//! be all there is (every ring is deleted, or says that nothing is verified), so it takes
//! turns with what comes after it. Who has waited for long takes turns with whoever would
//! be first, so that nobody waits for ever.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

/// Who has waited for this long takes turns with those that go before it: a minute
/// less than anybody may wait.
const PATIENCE: Duration = Duration::from_secs(240);

/// In this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// It waits for nobody.
    Urgent,
    /// It waits for that, and for every other one of what follows.
    Soon,
    /// What was begun is finished before something else is.
    UnderWay,
    /// Whatever else there is.
    Rest,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    class: Class,
    ticket: u64,
    since: Instant,
}

/// The names that wait to be worked on.
#[derive(Debug)]
pub(super) struct Order<N> {
    /// By class, and in it in the order in which they came.
    waiting: BTreeMap<(Class, u64), N>,
    places: HashMap<N, Place>,
    /// Whose work is urgent until it has succeeded, waiting or not.
    urgent: HashSet<N>,
    /// Whose work is to be soon until it has succeeded.
    soon: HashSet<N>,
    /// Whose last pass left something begun.
    under_way: HashSet<N>,
    next_ticket: u64,
    /// The last one that was taken had waited for long.
    took_overdue: bool,
    /// It was to be soon.
    took_soon: bool,
}

impl<N> Default for Order<N> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            urgent: HashSet::new(),
            soon: HashSet::new(),
            under_way: HashSet::new(),
            next_ticket: 0,
            took_overdue: false,
            took_soon: false,
        }
    }
}

impl<N: Clone + Ord + Hash> Order<N> {
    /// Has a name wait, unless it does already.
    pub(super) fn push(&mut self, name: N, now: Instant) {
        if self.places.contains_key(&name) {
            return;
        }
        self.next_ticket += 1;
        let place = Place { class: self.class(&name), ticket: self.next_ticket, since: now };
        self.waiting.insert((place.class, place.ticket), name.clone());
        self.places.insert(name, place);
    }

    /// Makes a name's work urgent until it has succeeded.
    pub(super) fn make_urgent(&mut self, name: &N) {
        self.urgent.insert(name.clone());
        self.place_anew(name);
    }

    /// Has a name's work be soon until it has succeeded.
    pub(super) fn make_soon(&mut self, name: &N) {
        self.soon.insert(name.clone());
        self.place_anew(name);
    }

    fn place_anew(&mut self, name: &N) {
        let class = self.class(name);
        if let Some(place) = self.places.get_mut(name) {
            self.waiting.remove(&(place.class, place.ticket));
            place.class = class;
            self.waiting.insert((place.class, place.ticket), name.clone());
        }
    }

    /// Takes in how a pass over a name has ended.
    pub(super) fn passed(&mut self, name: &N, succeeded: bool, under_way: bool) {
        if succeeded {
            self.urgent.remove(name);
            self.soon.remove(name);
        }
        if under_way {
            self.under_way.insert(name.clone());
        } else {
            self.under_way.remove(name);
        }
    }

    /// Takes out who is next; of those that are urgent only, if there is room for no
    /// others.
    pub(super) fn pop(&mut self, only_urgent: bool, now: Instant) -> Option<N> {
        let mut first = self.waiting.keys().next().copied();
        first = first.filter(|(class, _)| !only_urgent || *class == Class::Urgent);
        if self.took_soon && first.is_some_and(|(class, _)| class == Class::Soon) {
            let follows = self.waiting.range((Class::UnderWay, 0)..).next();
            first = follows.map(|(place, _)| *place).or(first);
        }
        let overdue = self.overdue(now).filter(|_| !only_urgent && !self.took_overdue);
        if !only_urgent {
            self.took_overdue = overdue.is_some();
        }
        let place = overdue.or(first)?;
        if place.0 != Class::Urgent {
            self.took_soon = place.0 == Class::Soon;
        }
        let name = self.waiting.remove(&place)?;
        self.places.remove(&name);
        Some(name)
    }

    /// Who has waited for long and may not be first: the oldest of them.
    fn overdue(&self, now: Instant) -> Option<(Class, u64)> {
        let first_of = |class| {
            let (of, name) = self.waiting.range((class, 0)..).next()?;
            let since = self.places.get(name)?.since;
            (of.0 == class).then_some((since, *of))
        };
        let firsts = [Class::Soon, Class::UnderWay, Class::Rest].into_iter().filter_map(first_of);
        let (since, oldest) = firsts.min_by_key(|(since, _)| *since)?;
        (now.duration_since(since) >= PATIENCE).then_some(oldest)
    }

    /// Whether a name waits.
    pub(super) fn contains(&self, name: &N) -> bool {
        self.places.contains_key(name)
    }

    /// Whether a name's work is urgent.
    pub(super) fn is_urgent<Q: ?Sized + Hash + Eq>(&self, name: &Q) -> bool
    where
        N: Borrow<Q>,
    {
        self.urgent.contains(name)
    }

    /// Whether it is to be soon.
    pub(super) fn is_soon<Q: ?Sized + Hash + Eq>(&self, name: &Q) -> bool
    where
        N: Borrow<Q>,
    {
        self.soon.contains(name)
    }

    /// Gives back the room that a wave has taken up.
    pub(super) fn shrink_to(&mut self, least: usize) {
        self.places.shrink_to(least);
    }

    /// How many names wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn class(&self, name: &N) -> Class {
        if self.urgent.contains(name) {
            Class::Urgent
        } else if self.soon.contains(name) {
            Class::Soon
        } else if self.under_way.contains(name) {
            Class::UnderWay
        } else {
            Class::Rest
        }
    }
}
