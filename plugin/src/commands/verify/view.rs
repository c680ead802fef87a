//! What the dry runs came to.

use serde::Serialize;

use super::find::{Kind, Probe};
use crate::dry_run::{Answer, reason};

/// What the dry runs came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub ring: String,
    /// Whether the ring only reports, so that all is admitted.
    pub audits: bool,
    pub namespaces: usize,
    /// The one namespace that was looked at, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    pub times: u32,
    pub rows: Vec<Row>,
    /// The kinds of images of which none was found.
    pub missing: Vec<Kind>,
}

/// One image in one namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub namespace: String,
    pub kind: Kind,
    pub image: String,
    /// Whether it has to be admitted; nothing if that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<bool>,
    pub admitted: u32,
    pub refused: u32,
    /// Dry runs that said nothing of the image.
    pub unheard: u32,
    /// What was said last instead of admitting it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

impl Row {
    /// None yet.
    pub fn new(namespace: &str, probe: &Probe) -> Self {
        Self {
            namespace: namespace.to_owned(),
            kind: probe.kind,
            image: probe.image.clone(),
            starts: probe.starts,
            admitted: 0,
            refused: 0,
            unheard: 0,
            says: None,
        }
    }

    /// Takes one in.
    pub fn count(&mut self, answer: Answer) {
        match answer {
            Answer::Admitted(None) => self.admitted += 1,
            // What would run is another image than the one that was tried.
            Answer::Admitted(Some(other)) => {
                self.unheard += 1;
                self.says = Some(format!("something changes the image to {other}"));
            }
            Answer::Refused(text) => {
                self.refused += 1;
                self.says = Some(reason(&text));
            }
            // Where Kyverno is away nothing starts; that it verifies is not seen.
            Answer::Unanswered(text) | Answer::Other(text) => {
                self.unheard += 1;
                self.says = Some(text);
            }
        }
    }

    /// Whether it was as it has to be, every time.
    pub fn is_right(&self) -> bool {
        self.unheard == 0
            && match self.starts {
                Some(true) => self.refused == 0,
                Some(false) => self.admitted == 0,
                None => true,
            }
    }
}

impl View {
    /// None yet.
    pub fn new(ring: &str, audits: bool, namespaces: usize, times: u32) -> Self {
        Self {
            ring: ring.to_owned(),
            audits,
            namespaces,
            only: None,
            times,
            rows: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Whether it is proven that the gate is closed.
    pub fn is_open(&self) -> bool {
        let is_tried = self.rows.iter().any(|row| row.starts == Some(false));
        self.audits || !is_tried || !self.rows.iter().all(Row::is_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_lets_some_through_is_open() {
        let probe = |kind, starts| Probe { image: "x".into(), kind, starts: Some(starts) };
        let mut view = View::new("checkout", false, 1, 12);
        assert!(view.is_open(), "nothing was tried");
        let mut row = Row::new("ns", &probe(Kind::Unsigned, false));
        for _ in 0..9 {
            row.count(Answer::Refused("no".into()));
        }
        view.rows = vec![row];
        assert!(!view.is_open());
        view.rows[0].count(Answer::Unanswered("no endpoints".into()));
        assert!(view.is_open(), "nobody verified it");
        (view.rows[0].unheard, view.rows[0].says) = (0, None);
        for _ in 0..3 {
            view.rows[0].count(Answer::Admitted(None));
        }
        assert!(view.is_open());
        view.rows = vec![Row::new("ns", &probe(Kind::Current, true))];
        assert!(view.is_open(), "nothing that has to be refused was tried");
    }
}
