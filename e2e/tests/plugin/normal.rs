//! What a command printed, without what differs from run to run: addresses, times, ages,
//! digests, keys' fingerprints and names that Kubernetes made up.

use std::collections::BTreeMap;

use crate::picture::is_mark;

/// The registry as the page calls it.
const REGISTRY: &str = "localhost:5000";

/// The alphabet of the names that Kubernetes makes up.
const MADE_UP: &str = "bcdfghjklmnpqrstvwxz2456789";

/// Gives the same thing the same name all over a page.
pub struct Normal {
    registry: String,
    /// The digests and fingerprints that were met, by how they begin, in their order.
    met: BTreeMap<String, usize>,
}

impl Normal {
    /// Of a cluster with this registry.
    pub fn new(registry: &str) -> Self {
        Self { registry: registry.to_owned(), met: BTreeMap::new() }
    }

    /// A line of the page as it has to be run.
    pub fn undo(&self, line: &str) -> String {
        line.replace(REGISTRY, &self.registry)
    }

    /// What was printed as the page has it.
    pub fn of(&mut self, printed: &str) -> String {
        let printed = printed.replace(&self.registry, REGISTRY);
        let printed = self.hashes(&printed, "sha256:", |c| c.is_ascii_hexdigit());
        let printed = self.hashes(&printed, "sha256-", |c| c.is_ascii_hexdigit());
        let printed =
            self.hashes(&printed, "SHA256:", |c| c.is_ascii_alphanumeric() || "+/=".contains(c));
        let lines = printed.lines().filter(|line| !is_on_the_way(line)).map(words);
        aligned(&lines.collect::<Vec<_>>())
    }

    /// What follows a prefix becomes a hash that tells which it is.
    fn hashes(&mut self, text: &str, prefix: &str, fits: impl Fn(char) -> bool) -> String {
        let mut parts = text.split(prefix);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c| !fits(c)).unwrap_or(part.len());
            let (hash, rest) = part.split_at(end);
            out.push_str(prefix);
            if hash.len() >= 12 {
                let next = self.met.len() + 1;
                let number = *self.met.entry(hash[..12].to_owned()).or_insert(next);
                let unit = format!("{number:02}ab{number:02}cd");
                out.extend(unit.chars().cycle().take(hash.len()));
            } else {
                out.push_str(hash);
            }
            out.push_str(rest);
        }
        out
    }
}

/// What lasts of a rotation's steps, and is told of each.
const LASTING: [&str; 7] = [
    " is minted",
    "Kyverno has accepted version ",
    " holds version ",
    " signs",
    " stands by",
    " is retired: ",
    " is revoked",
];

/// Steps that are told only if they are met: whoever watches may come too late.
fn is_on_the_way(line: &str) -> bool {
    let step = line.trim_start().strip_prefix('+').and_then(|line| line.split_once("s  "));
    let lasts = |what: &str| LASTING.iter().any(|words| what.contains(words));
    let is_met = step.is_some_and(|(_, what)| what.contains(" is pending: ") || !lasts(what));
    is_met || line.starts_with("Kyverno has not answered yet")
}

/// Times, ages and made-up names, word by word.
fn words(line: &str) -> String {
    if let Some((after, what)) = line.trim_start().split_once("s  ")
        && after.starts_with('+')
    {
        return format!("   +1s  {what}");
    }
    let mut out = String::new();
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches(|c| " ,;:).".contains(c) || is_mark(c));
        let bare = bare.trim_start_matches(|c| c == '(' || is_mark(c));
        out.push_str(&match replaced(bare) {
            Some(new) => word.replace(bare, &new),
            None => word.to_owned(),
        });
    }
    out
}

fn replaced(word: &str) -> Option<String> {
    let is_age = word.strip_suffix(['s', 'm', 'h', 'd']).is_some_and(|number| {
        !number.is_empty() && number.len() < 5 && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    if is_age {
        return Some("1m".to_owned());
    }
    let is_time = word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
    if is_time {
        return Some("2026-11-24T10:00:00Z".to_owned());
    }
    let (name, last) = word.rsplit_once('-')?;
    // A 32-bit number in decimal, each digit of which is written as one of the alphabet: most
    // have ten, and some few.
    let is_made_up = (4..=10).contains(&last.len())
        && last.chars().all(|c| MADE_UP.contains(c))
        && last.contains(|c: char| c.is_ascii_digit());
    is_made_up.then(|| format!("{name}-5d9c7b6f48"))
}

/// Columns of tables as wide as what is in them now: a table begins with its headings.
fn aligned(lines: &[String]) -> String {
    let cells = |line: &String| -> Option<Vec<String>> {
        let cells: Vec<String> = line
            .split("   ")
            .map(str::trim)
            .filter(|c| width_of(c) > 0)
            .map(str::to_owned)
            .collect();
        (!line.starts_with(' ') && cells.len() > 1).then_some(cells)
    };
    let mut out = String::new();
    let mut block: Vec<Vec<String>> = Vec::new();
    for line in lines {
        let row =
            cells(line).filter(|row| !block.is_empty() || row.iter().all(|cell| is_heading(cell)));
        match row {
            Some(row) => block.push(row),
            None => {
                flush(&mut block, &mut out);
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
    }
    flush(&mut block, &mut out);
    out
}

fn is_heading(cell: &str) -> bool {
    !cell.chars().any(char::is_lowercase)
}

fn flush(block: &mut Vec<Vec<String>>, out: &mut String) {
    let columns = block.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = block.iter().filter_map(|row| row.get(column));
        cells.map(|cell| width_of(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in block.drain(..) {
        let last = row.len() - 1;
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column < last {
                let gap = widths[column] - width_of(cell) + 3;
                out.extend(std::iter::repeat_n(' ', gap));
            }
        }
        out.push('\n');
    }
}

fn width_of(cell: &str) -> usize {
    cell.chars().filter(|c| !is_mark(*c)).count()
}

#[test]
fn two_runs_come_to_the_same() {
    let of = |text: &str| Normal::new("localhost:4711").of(text);
    let one = "VERSION   AGE    KEY\n2         12s    SHA256:abcdefghijkl…\n1         119m   SHA256:mnopqrstuvwx\n";
    let two = "VERSION   AGE   KEY\n2         1s    SHA256:Abcdefghijkl…\n1         9m    SHA256:Mnopqrstuvwx\n";
    assert_eq!(of(one), of(two));
    assert!(of(one).contains("01ab01cd01ab"), "{}", of(one));
    assert_eq!(of("  +12s  version 4 signs\n"), of("   +3s  version 4 signs\n"));
    assert_eq!(of("  +12s  version 4 is pending: it signs\n   +3s  a rotation is due\n"), "");
    assert_eq!(of("at 2026-11-26T22:00:19Z: x"), "at 2026-11-24T10:00:00Z: x\n");
    assert_eq!(of("web-6f7d8c9b5 localhost:4711/a"), "web-5d9c7b6f48 localhost:5000/a\n");
    assert_eq!(of("Deployment web-6f7d8c"), "Deployment web-5d9c7b6f48\n");
    assert_eq!(of("signing-enforce-0001"), "signing-enforce-0001\n");
    assert_eq!(of("docs/kubectl-signing checkout-dev"), "docs/kubectl-signing checkout-dev\n");
}
