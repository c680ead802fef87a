//! What all runs came to, as a table.

use std::{fmt, time::Duration};

/// What the runs of one scenario came to.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// The writes of its fault-free run.
    pub writes: usize,
    /// The runs whose fault came.
    pub tried: usize,
    /// The runs that were over before the write that was to fail.
    pub not_reached: usize,
    /// Runs that were repeated because Kyverno did not answer for seconds.
    pub repeated: usize,
    /// What was violated, in all runs.
    pub violations: usize,
    /// Runs that could not be made.
    pub errors: usize,
}

/// All scenarios.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// One row a scenario.
    pub rows: Vec<Row>,
    /// How long it took.
    pub took: Duration,
}

impl Table {
    /// Whether nothing was violated and every run could be made.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let clean = |row: &Row| row.violations == 0 && row.errors == 0 && row.writes > 0;
        !self.rows.is_empty() && self.rows.iter().all(clean)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            "scenario",
            "writes",
            "faults tried",
            "not reached",
            "repeated",
            "violations",
            "errors",
        ];
        let [scenario, numbers @ ..] = columns;
        write!(f, "{scenario:22}")?;
        for name in numbers {
            write!(f, " {name:>12}")?;
        }
        writeln!(f)?;
        let mut total = Row { scenario: "all", ..Row::default() };
        for row in &self.rows {
            line(f, row)?;
            total.writes += row.writes;
            total.tried += row.tried;
            total.not_reached += row.not_reached;
            total.repeated += row.repeated;
            total.violations += row.violations;
            total.errors += row.errors;
        }
        line(f, &total)?;
        write!(f, "took {} s", self.took.as_secs())
    }
}

fn line(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    write!(f, "{:22}", row.scenario)?;
    let counts = [row.writes, row.tried, row.not_reached, row.repeated, row.violations, row.errors];
    for number in counts {
        write!(f, " {number:>12}")?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_clean_without_violations_and_errors_only() {
        let row = Row { scenario: "create", writes: 8, tried: 61, ..Row::default() };
        let table = |row: Row| Table { rows: vec![row], took: Duration::ZERO };
        assert!(table(row.clone()).is_clean());
        assert!(!table(Row { violations: 1, ..row }).is_clean());
        assert!(!table(Row { errors: 1, ..row }).is_clean());
        assert!(!table(Row { writes: 0, ..row }).is_clean());
        assert!(!Table::default().is_clean());
    }
}
