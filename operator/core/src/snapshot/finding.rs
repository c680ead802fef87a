//! What is learned after a snapshot was made.

use super::{ImportFound, LedgerFound, PipelineFound, Snapshot};
use crate::ledger::{Damage, PipelineRef};

/// What executing a plan has brought to light, and no watch or look had shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A pipeline's Secret could not be written or deleted.
    Pipeline(PipelineRef, PipelineFound),
    /// The ledger's Secret does not hold what its table says.
    LedgerDamaged(String),
    /// The Secret with the ledger's name is not a ledger.
    LedgerForeign,
    /// The key pair of `spec.importFrom` cannot be taken over.
    ImportFailed(String),
    /// The pass failed, in these words, and is tried again.
    Trouble(String),
}

impl Snapshot {
    /// Takes in what was found since it was made, so that it is reported.
    pub fn learn(&mut self, finding: Finding) {
        match finding {
            Finding::Pipeline(pipeline, found) => {
                self.pipelines.insert(pipeline, found);
            }
            Finding::LedgerDamaged(why) => {
                self.ledger = LedgerFound::Damaged(Damage::Unreadable { why });
            }
            Finding::LedgerForeign => self.ledger = LedgerFound::Foreign,
            Finding::ImportFailed(why) => {
                if let Some(import) = &mut self.import {
                    import.found = ImportFound::Failed(why);
                }
            }
            Finding::Trouble(why) => self.trouble = Some(why),
        }
    }
}
