//! What is read of a policy's exclusions.

use std::collections::BTreeSet;

use signingkeyring_core::ledger::Exclusion;

use crate::{POLICIES, ledger, rendered};

#[test]
fn what_a_ring_excludes_is_no_other_rings() {
    let mut till = ledger(1);
    till.rule.settings.exclude =
        vec![Exclusion { image: "quay.io/till/*".to_owned(), expires: None }];
    for of in POLICIES {
        let spec = rendered(of, &[("shop", &ledger(1)), ("till", &till)]).spec;
        let is_skipped = |globs: BTreeSet<String>| globs.contains("quay.io/till/*");
        let kind = of.kind();
        assert!(is_skipped(kind.skipped(&spec)), "{of}");
        assert!(is_skipped(kind.skipped_by(&spec, "till")), "{of}");
        assert!(!is_skipped(kind.skipped_by(&spec, "shop")), "{of}");
    }
}
