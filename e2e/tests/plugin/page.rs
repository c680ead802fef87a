//! The page: text, and blocks of commands with what they print.

/// A part of the page.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// What stays as it is.
    Text(&'a str),
    /// A line of shell, behind its prompt. What it printed follows it, and is not kept.
    Command(&'a str),
}

const BEGIN: &str = "```console";
const END: &str = "```";
const PROMPT: &str = "$ ";

/// Takes it apart.
pub fn parts(page: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut is_console = false;
    for line in page.split_inclusive('\n') {
        match line.trim_end() {
            BEGIN => {
                is_console = true;
                parts.push(Part::Text(line));
            }
            END if is_console => {
                is_console = false;
                parts.push(Part::Text(line));
            }
            text if is_console => {
                parts.extend(text.strip_prefix(PROMPT).map(Part::Command));
            }
            _ => parts.push(Part::Text(line)),
        }
    }
    parts
}

/// A command with what it printed, as a block has it.
pub fn shown(line: &str, code: Option<i32>, printed: &str) -> String {
    let printed = printed.trim_end();
    let mut shown = format!("{PROMPT}{line}\n");
    if !printed.is_empty() {
        shown.push_str(printed);
        shown.push('\n');
    }
    if code != Some(0) {
        let code = code.map_or("a signal".to_owned(), |code| code.to_string());
        shown.push_str(&format!("(ends with {code})\n"));
    }
    shown
}

#[test]
fn what_was_printed_is_left_out_and_all_else_stays() {
    let page = "a\n```console\n$ one\nold\n$ two\n```\nb\n```\n$ three\n```\n";
    let found = parts(page);
    let expected = [
        Part::Text("a\n"),
        Part::Text("```console\n"),
        Part::Command("one"),
        Part::Command("two"),
        Part::Text("```\n"),
        Part::Text("b\n"),
        Part::Text("```\n"),
        Part::Text("$ three\n"),
        Part::Text("```\n"),
    ];
    assert_eq!(found, expected);
    assert_eq!(shown("one", Some(3), "x\n\n"), "$ one\nx\n(ends with 3)\n");
}
