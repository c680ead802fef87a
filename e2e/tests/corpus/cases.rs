//! All images of the corpus.

use anyhow::{Context, Result};
use futures::{FutureExt, StreamExt, TryStreamExt, future::LocalBoxFuture, stream};
use signingkeyring_e2e_testbed::kind::Kind;

use crate::{AT_ONCE, attach::Bed, plain, special};

/// An image, and what is known of it beforehand.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is.
    pub what: String,
    /// As a Pod names it.
    pub image: String,
    /// Whether its registry has it.
    pub is_there: bool,
    /// For which kinds its registry does not say enough.
    pub unknown: Vec<Kind>,
    /// Who signed it, if that is known.
    pub signers: Option<Vec<String>>,
}

impl Case {
    pub fn new(what: &str, image: impl Into<String>) -> Self {
        let (what, image) = (what.to_owned(), image.into());
        Self { what, image, is_there: true, unknown: Vec::new(), signers: None }
    }

    pub fn unknown(self, unknown: &[Kind]) -> Self {
        Self { unknown: unknown.to_vec(), ..self }
    }

    pub fn missing(self) -> Self {
        Self { is_there: false, ..self }
    }
}

/// What makes some of them.
pub type Making<'a> = LocalBoxFuture<'a, Result<Vec<Case>>>;

/// Makes all of them.
pub async fn all(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let plain =
        (0..).zip(plain::PLAIN).map(|(number, row)| plain::make(bed, number, row).boxed_local());
    // What takes longest begins first, and stands last.
    let special: Vec<Making<'_>> = special::all(bed);
    let later = special.len();
    let making = stream::iter(special.into_iter().chain(plain)).buffered(AT_ONCE);
    let mut made: Vec<Vec<Case>> = making.try_collect().await?;
    made.rotate_left(later);
    let cases = made.into_iter().flatten().collect::<Vec<_>>();
    let mut names: Vec<&str> = cases.iter().map(|case| case.what.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    twice.is_none().then_some(()).with_context(|| format!("{twice:?} are two cases"))?;
    Ok(cases)
}
