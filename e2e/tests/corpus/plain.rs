//! Images to which cosign attached something, and nobody did anything else.

use anyhow::{Context, Result};

use crate::{
    attach::{Bed, How, How::*},
    cases::Case,
    keys::{By, By::*, OTHER, RING},
};

type Row = (&'static str, &'static [(How, By)]);

/// What is attached, in this order.
pub const PLAIN: [Row; 41] = [
    ("no signature", &[]),
    ("`.sig` of the current version", &[(Sig, Current)]),
    ("`.sig` of the current version, by cosign 2.6", &[(Sig26, Current)]),
    ("bundle of the current version", &[(Bundle, Current)]),
    ("`.sig` of an accepted version", &[(Sig, Accepted)]),
    ("`.sig` of an accepted version, by cosign 2.6", &[(Sig26, Accepted)]),
    ("bundle of an accepted version", &[(Bundle, Accepted)]),
    ("`.sig` of a retired version", &[(Sig, Retired)]),
    ("`.sig` of a retired version, by cosign 2.6", &[(Sig26, Retired)]),
    ("bundle of a retired version", &[(Bundle, Retired)]),
    ("`.sig` of another ring", &[(Sig, Other)]),
    ("bundle of another ring", &[(Bundle, Other)]),
    ("`.sig` of an unknown key", &[(Sig, Unknown)]),
    ("`.sig` of an unknown key, by cosign 2.6", &[(Sig26, Unknown)]),
    ("bundle of an unknown key", &[(Bundle, Unknown)]),
    ("`.sig` of two versions, each by another cosign", &[(Sig26, Accepted), (Sig, Current)]),
    ("`.sig` of the current version, then of an unknown key", &[(Sig, Current), (Sig, Unknown)]),
    ("`.sig` of an unknown key, then of the current version", &[(Sig26, Unknown), (Sig, Current)]),
    (
        "bundle of the current version, then of an unknown key",
        &[(Bundle, Current), (Bundle, Unknown)],
    ),
    (
        "bundle of an unknown key, then of the current version",
        &[(Bundle, Unknown), (Bundle, Current)],
    ),
    ("`.sig`, and a bundle of the same key", &[(Sig, Current), (Bundle, Current)]),
    ("`.sig`, and a bundle of another accepted version", &[(Sig26, Current), (Bundle, Accepted)]),
    ("`.sig`, and an unknown key's bundle", &[(Sig, Current), (Bundle, Unknown)]),
    ("`.sig`, and another ring's bundle", &[(Sig, Current), (Bundle, Other)]),
    ("`.sig`, and a retired version's bundle", &[(Sig26, Current), (Bundle, Retired)]),
    ("an unknown key's `.sig`, and a bundle", &[(Sig, Unknown), (Bundle, Current)]),
    (
        "a retired version's `.sig`, and an unknown key's bundle",
        &[(Sig, Retired), (Bundle, Unknown)],
    ),
    ("`.sig` of a retired version, signed again", &[(Sig, Retired), (Sig, Current)]),
    ("bundle of a retired version, signed again", &[(Bundle, Retired), (Bundle, Current)]),
    (
        "`.sig` of a retired version, signed again in a bundle",
        &[(Sig26, Retired), (Bundle, Current)],
    ),
    ("bundle of a retired version, signed again in `.sig`", &[(Bundle, Retired), (Sig, Current)]),
    ("attestation in a bundle, and no signature", &[(Attested, Current)]),
    ("attestation in `.att`, and no signature", &[(AttestedTag, Current)]),
    ("an unknown key's attestation in a bundle", &[(Attested, Unknown)]),
    ("`.sig`, and an attestation in a bundle", &[(Sig, Current), (Attested, Current)]),
    (
        "`.sig`, and an unknown key's attestation in a bundle",
        &[(Sig, Current), (Attested, Unknown)],
    ),
    ("`.sig`, and an attestation in `.att`", &[(Sig26, Current), (AttestedTag, Current)]),
    ("bundle, and an attestation in a bundle", &[(Bundle, Current), (Attested, Current)]),
    (
        "bundle, and an unknown key's attestation in a bundle",
        &[(Bundle, Current), (Attested, Unknown)],
    ),
    ("bundle, and an attestation in `.att`", &[(Bundle, Current), (AttestedTag, Current)]),
    (
        "a retired version's bundle, and an attestation in a bundle",
        &[(Bundle, Retired), (Attested, Current)],
    ),
];

/// Who signed, newest of the ring first, as the library should say it.
fn signers(attached: &[(How, By)]) -> Vec<String> {
    let mut signers: Vec<(u8, String)> = attached
        .iter()
        .filter_map(|(how, by)| {
            let format = match how {
                Sig | Sig26 => "`.sig`",
                Bundle => "bundle",
                Attested | AttestedTag => return None,
            };
            let (rank, who) = match by {
                Current => (0, format!("{RING} 3 Current")),
                Accepted => (1, format!("{RING} 2 Accepted")),
                Retired => (2, format!("{RING} 1 Retired")),
                Other => (3, format!("{OTHER} 1 Current")),
                Unknown => return None,
            };
            Some((rank, format!("{who} {format}")))
        })
        .collect();
    // Of one key, tags come first.
    signers.sort();
    signers.into_iter().map(|(_, who)| who).collect()
}

/// Makes an image.
pub async fn make(bed: &Bed<'_>, number: usize, (what, attached): Row) -> Result<Vec<Case>> {
    let image = bed.signed(&format!("plain-{number}"), attached).await;
    let image = image.with_context(|| what.to_owned())?;
    Ok(vec![Case { signers: Some(signers(attached)), ..Case::new(what, image) }])
}
