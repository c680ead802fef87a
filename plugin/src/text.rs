//! Lines of text with styles, and tables of them. What is foreign has no control
//! characters when it comes out of here.

use unicode_width::UnicodeWidthStr;

/// What a text is to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// All is well.
    Good,
    /// On its way, or not known.
    Warn,
    /// Wrong.
    Bad,
    /// Of less interest.
    Dim,
}

/// A text with its style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its style.
    pub style: Style,
    /// Its text, clean.
    text: String,
}

impl Span {
    /// A text without control characters.
    pub fn new(style: Style, text: impl AsRef<str>) -> Self {
        Self { style, text: clean(text.as_ref()) }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn width(&self) -> usize {
        self.text.width()
    }
}

impl<T: AsRef<str>> From<T> for Span {
    fn from(text: T) -> Self {
        Self::new(Style::Plain, text)
    }
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// A line of one style.
    pub fn new(style: Style, text: impl AsRef<str>) -> Self {
        Self(vec![Span::new(style, text)])
    }

    /// An empty one.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The same with more at its end.
    #[must_use]
    pub fn and(mut self, span: impl Into<Span>) -> Self {
        self.0.push(span.into());
        self
    }
}

impl<T: AsRef<str>> From<T> for Line {
    fn from(text: T) -> Self {
        Self::new(Style::Plain, text)
    }
}

/// A table: a row of headings and rows below it.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<Span>>,
}

impl Table {
    /// One without rows.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|text| Span::new(Style::Bold, text)).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Span>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Its lines, in columns.
    pub fn lines(self) -> Vec<Line> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(Span::width).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        let line = |row: Vec<Span>| {
            let last = row.len().saturating_sub(1);
            let cells = row.into_iter().zip(&widths).enumerate();
            let padded = cells.map(|(at, (mut cell, width))| {
                if at < last {
                    let gap = width.saturating_sub(cell.width()) + 3;
                    cell.text.extend(std::iter::repeat_n(' ', gap));
                }
                cell
            });
            let mut line = Line(padded.collect());
            // An empty cell at the end leaves no blanks behind.
            if let Some(end) = line.0.iter_mut().rev().find(|cell| !cell.text.trim().is_empty()) {
                end.text.truncate(end.text.trim_end().len());
            }
            while line.0.last().is_some_and(|cell| cell.text.trim().is_empty()) {
                line.0.pop();
            }
            line
        };
        self.rows.into_iter().map(line).collect()
    }
}

/// Enough of a fingerprint to know it again.
pub fn shortened(fingerprint: &str) -> String {
    let start: String = fingerprint.chars().take(19).collect();
    if start.len() < fingerprint.len() { format!("{start}…") } else { start }
}

/// A text whose control characters, and those that turn the direction of writing, are
/// shown and not obeyed.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unfit(character) {
            cleaned.extend(character.escape_default());
        } else {
            cleaned.push(character);
        }
    }
    cleaned
}

/// Whether a terminal would obey it, or show what follows otherwise.
pub fn is_unfit(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The lines as they are without styles.
#[cfg(test)]
pub fn plain(lines: &[Line]) -> String {
    let text = |line: &Line| line.0.iter().map(Span::text).collect::<String>() + "\n";
    lines.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_moves_the_cursor() {
        for (text, shown) in [
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\rb\nc", "a\\rb\\nc"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("grün · 日本", "grün · 日本"),
        ] {
            assert_eq!(clean(text), shown);
            assert_eq!(Span::from(text).text(), shown);
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["A", "LONG", "B"]);
        table.row(["long".into(), "x".into(), "y".into()]);
        table.row(["é".into(), "".into(), "".into()]);
        assert!(!table.is_empty());
        insta::assert_snapshot!(plain(&table.lines()), @r"
        A      LONG   B
        long   x      y
        é
        ");
    }
}
