//! Randomness that can be repeated: the same seed makes the same choices.

/// A source of choices (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The source of one actor. Each has its own, so that what one of them does
    /// does not depend on how quick the others were.
    #[must_use]
    pub fn new(seed: u64, actor: &str) -> Self {
        let start = actor.bytes().fold(seed, |state, byte| Self(state ^ u64::from(byte)).next());
        Self(start)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` up to, not including, `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % high.saturating_sub(low).max(1)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.between(0, times) == 0
    }

    /// One of several; nothing if there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.between(0, of.len() as u64)).unwrap_or(0);
        of.get(index)
    }

    /// The same things in another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.between(0, last as u64 + 1)).unwrap_or(last);
            things.swap(last, other);
        }
    }
}

/// Things drawn until none is left, then all of them again: everything comes
/// about as often as it is in the bag, in a random order.
#[derive(Debug)]
pub struct ShuffleBag<T> {
    things: Vec<T>,
    left: Vec<T>,
    random: Random,
}

impl<T: Copy> ShuffleBag<T> {
    /// A bag of kinds of things, each with how many there are of it.
    #[must_use]
    pub fn new(kinds: &[(T, usize)], random: Random) -> Self {
        let things = kinds.iter().flat_map(|(thing, count)| vec![*thing; *count]).collect();
        Self { things, left: Vec::new(), random }
    }

    /// The next thing; nothing if the bag has none at all.
    pub fn draw(&mut self) -> Option<T> {
        if self.left.is_empty() {
            self.left.clone_from(&self.things);
            self.random.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_actors_differ() {
        let draw = |seed, actor| {
            let mut random = Random::new(seed, actor);
            (0..20).map(|_| random.between(0, 1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "a"), draw(7, "a"));
        assert_ne!(draw(7, "a"), draw(7, "b"));
        assert_ne!(draw(7, "a"), draw(8, "a"));
    }

    #[test]
    fn a_bag_holds_what_was_put_in() {
        let mut bag = ShuffleBag::new(&[('a', 3), ('b', 1)], Random::new(1, "bag"));
        for _ in 0..3 {
            let mut round: Vec<_> = (0..4).filter_map(|_| bag.draw()).collect();
            round.sort_unstable();
            assert_eq!(round, ['a', 'a', 'a', 'b']);
        }
    }
}
