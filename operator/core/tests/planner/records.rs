//! What the ledger remembers of versions: each is there for the reason that it was.

use signingkeyring_core::{
    ledger::{Cause, End},
    snapshot::Revoked,
};

use crate::{
    cases::{rotate, settled},
    world::World,
};

fn causes(world: &World) -> Vec<Option<Cause>> {
    world.ledger.as_ref().unwrap().versions.iter().map(|v| v.record.cause).collect()
}

#[test]
fn a_version_is_there_for_the_reason_that_called_for_it() {
    use Cause::{First, Revocation, Schedule, Standby, Token};
    let mut world = settled();
    rotate(&mut world, "b");
    let day = 86_400;
    world.ring_mut().every = Some(std::time::Duration::from_secs(100 * day));
    world.tick(100 * i64::try_from(day).unwrap());
    assert!(world.settle());
    world.ring_mut().every = None;
    assert_eq!(causes(&world), [First, Token, Schedule].map(Some));
    world.ring_mut().revoked = vec![Revoked::Version(3)];
    assert!(world.settle());
    assert_eq!(causes(&world), [First, Token, Schedule, Revocation].map(Some));
    world.ring_mut().standby = true;
    assert!(world.settle());
    assert_eq!(causes(&world).last(), Some(&Some(Standby)));
    rotate(&mut world, "c");
    assert_eq!(
        causes(&world),
        [First, Token, Schedule, Revocation, Token, Standby].map(Some),
        "what stood by was called for, and another one stands by"
    );
    let ends = world.ledger.as_ref().unwrap().versions.iter().map(|v| v.record.ended);
    let ends: Vec<Option<End>> = ends.map(|end| end.map(|end| end.by)).collect();
    let (gone, revoked) = (Some(End::Rotation), Some(End::Revocation));
    assert_eq!(ends, [gone, gone, revoked, None, None, None]);
}
