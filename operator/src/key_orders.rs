//! Key pairs that rings wait for. They are sealed beside the passes that order them, so that
//! a ring is looked at meanwhile: one of its keys may be revoked, or Kyverno may answer.
//!
//! The rings of one policy are handed theirs together. Each write of a policy costs the API
//! server and Kyverno as much as several keys cost here: one write is for all of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    sync::Arc,
};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use signingkeyring_core::policy_ref::PolicyRef;
use tokio::sync::{
    self,
    mpsc::{self, UnboundedReceiver, UnboundedSender},
};

use crate::{error::Error, keys::KeyPair, lock::Mutex, sealings::Sealings, workqueue::WorkQueue};

/// The rings that have ordered a key pair, each one at most.
#[derive(Debug)]
pub struct KeyOrders {
    sealings: Arc<Sealings>,
    rings: Arc<WorkQueue<String>>,
    state: Mutex<State>,
    placed: UnboundedSender<Placed>,
    to_seal: sync::Mutex<UnboundedReceiver<Placed>>,
    /// Of the policies of which rings wait: held until all of their keys have room.
    turn: sync::Mutex<()>,
}

/// What is to be sealed.
#[derive(Debug)]
enum Placed {
    One { ring: String, is_urgent: bool },
    AllOf(PolicyRef),
}

#[derive(Debug, Default)]
struct State {
    orders: HashMap<String, Order>,
    /// How many of them are under way.
    under_way: usize,
    /// The rings of each policy whose turn has yet to come.
    waiting: HashMap<PolicyRef, Vec<String>>,
}

#[derive(Debug)]
enum Order {
    /// It waits for room, or is sealed.
    UnderWay { is_urgent: bool },
    /// The ring is woken to take it.
    Ready(Result<KeyPair, Error>),
}

impl KeyOrders {
    /// Of key pairs that are sealed there, and of rings that are woken there.
    #[must_use]
    pub fn new(sealings: Arc<Sealings>, rings: Arc<WorkQueue<String>>) -> Self {
        let (placed, to_seal) = mpsc::unbounded_channel();
        let (to_seal, turn) = (sync::Mutex::new(to_seal), sync::Mutex::default());
        Self { sealings, rings, state: Mutex::default(), placed, to_seal, turn }
    }

    /// Fills orders for ever. Those that wait for room end with it.
    pub async fn run(&self) {
        let mut to_seal = self.to_seal.lock().await;
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(placed) = to_seal.recv() => under_way.push(self.seal(placed)),
                Some(()) = under_way.next() => {}
            }
        }
    }

    async fn seal(&self, placed: Placed) {
        match placed {
            Placed::One { ring, is_urgent } => self.seal_one(&ring, is_urgent).await,
            Placed::AllOf(policy) => self.seal_all(policy).await,
        }
    }

    /// Whether a ring has its key pair without waiting for those of others.
    #[must_use]
    pub fn is_at_hand(&self, ring: &str) -> bool {
        let state = self.state.lock();
        state.orders.contains_key(ring) || (state.under_way == 0 && self.sealings.is_free())
    }

    /// Whether a ring waits for one, or is about to take it.
    #[must_use]
    pub fn has_ordered(&self, ring: &str) -> bool {
        self.state.lock().orders.contains_key(ring)
    }

    /// Takes the key pair that a ring has ordered, if it is ready, or why there is none.
    /// Otherwise it is ordered, unless it is already, and the ring is woken once it and those
    /// of its policy that were ordered before its turn are ready. What is urgent waits for
    /// none of them.
    pub fn take_or_order(
        &self,
        ring: &str,
        policy: Option<PolicyRef>,
        is_urgent: bool,
    ) -> Option<Result<KeyPair, Error>> {
        let mut state = self.state.lock();
        match state.orders.get_mut(ring) {
            Some(Order::Ready(_)) => return state.remove(ring),
            Some(Order::UnderWay { is_urgent: before }) => {
                if mem::replace(before, is_urgent || *before) || !is_urgent {
                    return None;
                }
            }
            None => {
                state.orders.insert(ring.to_owned(), Order::UnderWay { is_urgent });
                state.under_way += 1;
            }
        }
        let placed = match policy.filter(|_| !is_urgent) {
            Some(policy) => match state.waiting.entry(policy) {
                Entry::Occupied(mut rings) => {
                    // One that was forgotten may be there still.
                    if !rings.get().iter().any(|waits| waits == ring) {
                        rings.get_mut().push(ring.to_owned());
                    }
                    return None;
                }
                Entry::Vacant(rings) => {
                    rings.insert(vec![ring.to_owned()]);
                    Placed::AllOf(policy)
                }
            },
            None => Placed::One { ring: ring.to_owned(), is_urgent },
        };
        // Who takes them is a part of this.
        let _ = self.placed.send(placed);
        None
    }

    /// A ring wants none any more: what is sealed for it is gone.
    pub fn forget(&self, ring: &str) {
        self.state.lock().remove(ring);
    }

    async fn seal_one(&self, ring: &str, is_urgent: bool) {
        let key = if is_urgent {
            self.sealings.compute_urgently(1, KeyPair::generate).await
        } else {
            self.sealings.compute(1, KeyPair::generate).await
        };
        // If it was filled meanwhile, then with those of its policy, which may wait still.
        self.state.lock().fill(ring, key.and_then(|key| Ok(key?)));
        if is_urgent {
            self.rings.wake_soon(ring);
        } else {
            self.rings.wake_with_news(ring);
        }
    }

    async fn seal_all(&self, policy: PolicyRef) {
        let turn = self.turn.lock().await;
        let mut rings = self.state.lock().waiting.remove(&policy).unwrap_or_default();
        rings.retain(|ring| self.state.lock().waits_for_its_turn(ring));
        // Closed once each of them has begun, or has failed to.
        let (begins, mut all_begun) = mpsc::channel::<()>(1);
        let keys = rings.iter().map(|ring| {
            let begins = begins.clone();
            let generate = move || {
                drop(begins);
                KeyPair::generate()
            };
            async {
                let key = self.sealings.compute(1, generate).await;
                self.state.lock().fill(ring, key.and_then(|key| Ok(key?)))
            }
        });
        let keys = join_all(keys);
        drop(begins);
        let next = async {
            all_begun.recv().await;
            drop(turn);
        };
        let (filled, ()) = futures::join!(keys, next);
        let ready = rings.iter().zip(filled).filter(|(_, filled)| *filled);
        ready.for_each(|(ring, _)| self.rings.wake_with_news(ring));
    }
}

impl State {
    /// Takes out a ring's order, and what is ready of it.
    fn remove(&mut self, ring: &str) -> Option<Result<KeyPair, Error>> {
        match self.orders.remove(ring)? {
            Order::Ready(key) => Some(key),
            Order::UnderWay { .. } => {
                self.under_way -= 1;
                None
            }
        }
    }

    /// Whether nobody has it sealed more urgently, and it is wanted still.
    fn waits_for_its_turn(&self, ring: &str) -> bool {
        matches!(self.orders.get(ring), Some(Order::UnderWay { is_urgent: false }))
    }

    /// Fills a ring's order; says whether there was one to be filled.
    fn fill(&mut self, ring: &str, key: Result<KeyPair, Error>) -> bool {
        let Some(order @ Order::UnderWay { .. }) = self.orders.get_mut(ring) else { return false };
        *order = Order::Ready(key);
        self.under_way -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use signingkeyring_core::policy_ref::Action;
    use tokio::{task::JoinHandle, time::timeout};

    use super::*;
    use crate::{
        settings::Settings,
        workqueue::{Outcome, Pass},
    };

    const POLICY: PolicyRef = PolicyRef::new(Action::Enforce, 1);

    struct Shop {
        sealings: Arc<Sealings>,
        rings: Arc<WorkQueue<String>>,
        orders: Arc<KeyOrders>,
        run: JoinHandle<()>,
    }

    impl Shop {
        fn new() -> Self {
            let settings = Settings::parse_from(["operator", "--sealings=1"]);
            let (sealings, rings) = (Arc::new(Sealings::new(&settings)), Arc::default());
            let orders = Arc::new(KeyOrders::new(Arc::clone(&sealings), Arc::clone(&rings)));
            let filled = Arc::clone(&orders);
            let run = tokio::spawn(async move { filled.run().await });
            Self { sealings, rings, orders, run }
        }

        /// The first rings that are woken, in their order.
        async fn woken(&self, count: usize) -> Vec<String> {
            let names = Arc::new(Mutex::new(Vec::new()));
            let run = self.rings.run(
                1,
                || 1,
                |name| {
                    names.lock().push(name);
                    async { Pass { outcome: Outcome::Done, key: None, under_way: false } }
                },
            );
            let all = async {
                while names.lock().len() < count {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = run => {}
                ended = timeout(Duration::from_secs(60), all) => ended.unwrap(),
            }
            names.lock().clone()
        }

        fn take(&self, ring: &str) -> Option<KeyPair> {
            self.orders.take_or_order(ring, Some(POLICY), false).map(|key| key.unwrap())
        }

        /// What was ordered gets as far as it can.
        async fn let_it_begin(&self) {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }

        /// Takes all room there is until the sender is dropped.
        async fn fill(&self) -> std::sync::mpsc::Sender<()> {
            let (free, wait) = std::sync::mpsc::channel::<()>();
            let sealings = Arc::clone(&self.sealings);
            tokio::spawn(async move { sealings.compute(1, move || wait.recv()).await });
            while self.sealings.is_free() {
                tokio::task::yield_now().await;
            }
            free
        }
    }

    #[tokio::test]
    async fn who_orders_is_woken_to_take_it_once() {
        let shop = Shop::new();
        assert!(shop.orders.is_at_hand("ring"));
        assert!(shop.take("ring").is_none() && shop.take("ring").is_none());
        assert!(shop.orders.is_at_hand("ring") && !shop.orders.is_at_hand("other"));
        assert_eq!(shop.woken(1).await, ["ring"]);
        assert!(shop.orders.is_at_hand("other"));
        let first = shop.take("ring").unwrap();
        assert!(shop.take("ring").is_none(), "it was taken");
        assert_eq!(shop.woken(1).await, ["ring"]);
        assert_ne!(shop.take("ring").unwrap().fingerprint(), first.fingerprint());
        assert!(shop.orders.state.lock().orders.is_empty());
    }

    #[tokio::test]
    async fn what_becomes_urgent_goes_before_the_others() {
        let shop = Shop::new();
        let free = shop.fill().await;
        for ring in ["first", "second", "revoked"] {
            assert!(shop.take(ring).is_none());
            shop.let_it_begin().await;
        }
        assert!(shop.orders.take_or_order("revoked", Some(POLICY), true).is_none());
        assert!(shop.take("revoked").is_none(), "it stays urgent");
        shop.let_it_begin().await;
        drop(free);
        let woken = shop.woken(3).await;
        assert!(woken.iter().position(|ring| ring == "revoked") <= Some(1), "{woken:?}");
    }

    #[tokio::test]
    async fn what_nobody_wants_any_more_is_not_kept() {
        let shop = Shop::new();
        let free = shop.fill().await;
        for ring in ["waiting", "other"] {
            assert!(shop.take(ring).is_none());
        }
        shop.orders.forget("waiting");
        drop(free);
        assert_eq!(shop.woken(1).await, ["other"]);
        shop.orders.forget("other");
        let state = shop.orders.state.lock();
        assert!(state.orders.is_empty() && state.under_way == 0, "{state:?}");
    }

    /// As when the turn to lead ends.
    #[tokio::test]
    async fn what_waits_for_room_ends_with_who_fills_it() {
        let shop = Shop::new();
        let free = shop.fill().await;
        assert!(shop.take("waiting").is_none());
        assert!(shop.orders.take_or_order("urgent", Some(POLICY), true).is_none());
        shop.let_it_begin().await;
        shop.run.abort();
        shop.let_it_begin().await;
        drop(free);
        while !shop.sealings.is_free() {
            tokio::task::yield_now().await;
        }
        // Whoever waited still would have taken it up by now.
        shop.let_it_begin().await;
        assert!(shop.sealings.is_free());
        let state = shop.orders.state.lock();
        let is_ready = |order: &Order| matches!(order, Order::Ready(_));
        assert!(!state.orders.values().any(is_ready), "{state:?}");
    }

    #[tokio::test]
    async fn the_rings_of_a_policy_are_handed_theirs_together() {
        let shop = Shop::new();
        let free = shop.fill().await;
        let other = PolicyRef::new(Action::Enforce, 2);
        // The first has its turn already, the others wait for theirs.
        for (ring, policy) in [("first", POLICY), ("a", other), ("b", POLICY), ("c", other)] {
            assert!(shop.orders.take_or_order(ring, Some(policy), false).is_none());
            shop.let_it_begin().await;
        }
        drop(free);
        let mut woken = shop.woken(2).await;
        let other = shop.orders.state.lock().orders.remove("c");
        assert!(matches!(other, Some(Order::Ready(Ok(_)))), "{woken:?}, {other:?}");
        while woken.len() < 4 {
            woken.extend(shop.woken(1).await);
        }
        assert_eq!(woken, ["first", "a", "c", "b"]);
    }
}
