//! Lines as a terminal has room for them.

use unicode_width::UnicodeWidthChar;

use crate::text::{Line, Span, Style};

/// Lines that are no wider than a terminal, and no more than it has rows: what is longer
/// goes on below, at a blank if there is one, and what is left over is counted.
pub fn fit(lines: &[Line], columns: usize, rows: usize) -> Vec<Line> {
    let mut fitting: Vec<Line> =
        lines.iter().flat_map(|line| wrapped(line, columns.max(1))).collect();
    if fitting.len() > rows {
        let shown = rows.saturating_sub(1);
        let more = format!("… {} more lines", fitting.len() - shown);
        fitting.truncate(shown);
        fitting.extend(wrapped(&Line::new(Style::Dim, more), columns.max(1)).into_iter().take(1));
    }
    fitting
}

fn wrapped(line: &Line, columns: usize) -> Vec<Line> {
    let styled = |span: &Span| span.text().chars().map(|c| (c, span.style)).collect::<Vec<_>>();
    let all: Vec<(char, Style)> = line.0.iter().flat_map(styled).collect();
    let mut rest = all.as_slice();
    let mut rows = Vec::new();
    loop {
        let room = room(rest, columns);
        if room >= rest.len() {
            break;
        }
        let blank = rest.iter().take(room + 1).rposition(|(character, _)| *character == ' ');
        // One far to the left would leave most of the row empty.
        let blank = blank.filter(|at| *at > room / 2);
        let (row, more) = rest.split_at(blank.unwrap_or(room));
        rows.push(joined(row));
        let begins = more.iter().take_while(|(character, _)| *character == ' ').count();
        rest = more.split_at(begins).1;
    }
    rows.push(joined(rest));
    rows
}

/// How many of the characters fit into a row, which are two columns wide or none, too: at
/// least one.
fn room(characters: &[(char, Style)], columns: usize) -> usize {
    let mut width = 0;
    let fitting = characters.iter().take_while(|(character, _)| {
        width += character.width().unwrap_or(0);
        width <= columns
    });
    fitting.count().max(1)
}

fn joined(characters: &[(char, Style)]) -> Line {
    let runs = characters.chunk_by(|(_, a), (_, b)| a == b);
    let span = |run: &[(char, Style)]| {
        let style = run.first().map_or(Style::Plain, |(_, style)| *style);
        Span::new(style, run.iter().map(|(character, _)| character).collect::<String>())
    };
    Line(runs.map(span).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::plain;

    #[test]
    fn what_is_too_wide_goes_on_below_and_what_is_too_much_is_counted() {
        let lines = [
            Line::new(Style::Bold, "Kyverno").and("   policy signing-enforce-0001"),
            Line::empty(),
            Line::from("last"),
        ];
        assert_eq!(fit(&lines, 80, 3), lines);
        insta::assert_snapshot!(plain(&fit(&lines, 20, 9)), @r"
        Kyverno   policy
        signing-enforce-0001

        last
        ");
        insta::assert_snapshot!(plain(&fit(&lines, 20, 2)), @r"
        Kyverno   policy
        … 3 more lines
        ");
        let [first, ..] = &fit(&lines, 4, 9)[..] else { panic!() };
        assert_eq!(first, &Line::new(Style::Bold, "Kyve"));
        let wide = [Line::from("\u{6f22}\u{5b57}\u{6f22}\u{5b57}e\u{301}")];
        assert_eq!(plain(&fit(&wide, 4, 9)), "\u{6f22}\u{5b57}\n\u{6f22}\u{5b57}\ne\u{301}\n");
        // A terminal that tells no size of use is no reason to end.
        assert_eq!(fit(&lines, 0, 0).len(), 1);
    }
}
