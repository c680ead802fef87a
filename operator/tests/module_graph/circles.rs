//! The graph of the modules of each folder, and the circles in it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use crate::tree::{Place, Tree};

/// How many paths are shown of those that make an edge.
const SHOWN: usize = 5;

/// The paths that make an edge, with the files they stand in.
type Evidence = BTreeSet<(PathBuf, String)>;

/// The modules side by side in one folder, and which uses which.
type Graph = BTreeMap<String, BTreeMap<String, Evidence>>;

/// A circle among the modules of one folder.
pub struct Circle {
    folder: Place,
    /// The shortest way round, first and last the same, and what makes each
    /// edge.
    round: Vec<(String, Evidence)>,
    /// All modules that lead to each other there.
    knot: BTreeSet<String>,
}

impl Circle {
    /// In words; files are shown as seen from `workspace`.
    pub fn describe(&self, workspace: &Path) -> String {
        let names: Vec<&str> = self.round.iter().map(|(name, _)| name.as_str()).collect();
        let folder = std::iter::once("crate").chain(self.folder.iter().map(String::as_str));
        let folder = folder.collect::<Vec<_>>().join("::");
        let mut text = format!("{folder}: {} -> {}\n", names.join(" -> "), names[0]);
        for (index, (name, evidence)) in self.round.iter().enumerate() {
            let next = names[(index + 1) % names.len()];
            text += &format!("  {name} -> {next}\n");
            // A single word was imported, by a path that is shown.
            let (paths, words): (Vec<_>, Vec<_>) =
                evidence.iter().partition(|(_, path)| path.contains("::"));
            let shown = if paths.is_empty() { words } else { paths };
            for (file, path) in shown.iter().take(SHOWN) {
                let file = file.strip_prefix(workspace).unwrap_or(file);
                text += &format!("    {}: {path}\n", file.display());
            }
            if shown.len() > SHOWN {
                text += &format!("    and {} more\n", shown.len() - SHOWN);
            }
        }
        if self.knot.len() > self.round.len() {
            let knot = self.knot.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            text += &format!("  all that lead to each other: {knot}\n");
        }
        text
    }
}

/// The circles of a crate: of each set of modules that lead to each other the
/// shortest one.
pub fn circles(tree: &Tree) -> Vec<Circle> {
    let mut found = Vec::new();
    for (folder, graph) in graphs(tree) {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for name in graph.keys() {
            if seen.contains(name.as_str()) || way(&graph, name, name).is_none() {
                continue;
            }
            let knot: BTreeSet<String> = graph
                .keys()
                .filter(|other| {
                    way(&graph, name, other).is_some() && way(&graph, other, name).is_some()
                })
                .cloned()
                .collect();
            seen.extend(graph.keys().map(String::as_str).filter(|name| knot.contains(*name)));
            let ways = knot.iter().filter_map(|name| way(&graph, name, name));
            let Some(names) = ways.min_by_key(Vec::len) else { continue };
            let edges = names.iter().zip(names.iter().cycle().skip(1));
            let round = edges.map(|(from, to)| (from.clone(), graph[from][to].clone())).collect();
            found.push(Circle { folder: folder.clone(), round, knot });
        }
    }
    found
}

/// For each folder, which of its modules uses which. A path from one module to
/// another counts in the lowest folder that holds both.
fn graphs(tree: &Tree) -> BTreeMap<Place, Graph> {
    let mut graphs: BTreeMap<Place, Graph> = BTreeMap::new();
    for (from, module) in &tree.modules {
        for path in &module.paths {
            let Some(to) = tree.definition(from, path) else { continue };
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            let (Some(mine), Some(other)) = (from.get(common), to.get(common)) else { continue };
            let graph = graphs.entry(from[..common].to_vec()).or_default();
            graph.entry(other.clone()).or_default();
            let evidence = graph.entry(mine.clone()).or_default().entry(other.clone());
            evidence.or_default().insert((module.file.clone(), path.join("::")));
        }
    }
    graphs
}

/// The shortest way along at least one edge, without its end.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(name) = queue.pop_front() {
        for next in graph.get(name).into_iter().flat_map(BTreeMap::keys) {
            if next == to {
                let mut way = vec![name.to_owned()];
                let mut at = name;
                while at != from {
                    at = before[at];
                    way.push(at.to_owned());
                }
                way.reverse();
                return Some(way);
            }
            if next != from && !before.contains_key(next.as_str()) {
                before.insert(next, name);
                queue.push_back(next);
            }
        }
    }
    None
}
