//! The grammar of image patterns, as CEL rules. They accept what
//! the operator's parser accepts and nothing else (`tests/patterns.rs`), so a
//! pattern that would not count is refused when it is applied.

/// A part of a host's name.
const LABEL: &str = "[a-z0-9]([a-z0-9-]*[a-z0-9])?";
/// A port from 1 to 65535.
const PORT: &str =
    "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
/// A part of a repository's path.
const SEGMENT: &str = "[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*";
/// One that cannot be mistaken for a host.
const FIRST: &str = "[a-z0-9]+((__?|-+)[a-z0-9]+)*";
const TAG: &str = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";

/// The CEL rule of what stands before the first slash.
pub(crate) fn host() -> String {
    format!("!self.contains('/') || self.matches('^({LABEL}([.]{LABEL})*(:{PORT})?|{FIRST})/')")
}

/// The CEL rule of what follows. Two rules, because the API server's estimate
/// of one for both exceeds its budget.
pub(crate) fn path_and_end() -> String {
    let above = format!("[^/]*/({SEGMENT}/)*");
    let end = format!(":[*]|:{TAG}[*]?|(:{TAG})?@sha256:[a-f0-9]{{64}}");
    format!("self.matches('^({above}[*]|({above})?{SEGMENT}({end})?)$')")
}

/// The CEL rule that refuses the tree of Docker Hub's official images.
pub(crate) fn no_official_tree() -> &'static str {
    "!self.matches('^((index[.])?docker[.]io/)?library/[*]$')"
}
