//! Where lines go: a terminal, with colours unless `NO_COLOR` is set, or a log, without.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

use crate::{
    error::Error,
    fit::fit,
    text::{Line, Style, clean},
};

/// Whether the terminal can do no more than show characters, as in an editor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Standard output, and what is known of it.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    has_colours: bool,
    /// Whether there is a drawing that may be drawn over.
    is_drawn: bool,
    /// Whether the cursor stands behind a question.
    is_asking: bool,
}

impl Screen {
    /// The process's.
    pub fn standard() -> Self {
        // One that can move no cursor is written to as a log is.
        let is_terminal = io::stdout().is_terminal() && !is_dumb();
        let refused = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            is_terminal,
            has_colours: is_terminal && !refused("NO_COLOR"),
            is_drawn: false,
            is_asking: false,
        }
    }

    /// Whether somebody looks at it.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows lines.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn lines(&self, lines: &[Line]) -> Result<(), Error> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&self.render(line));
            text.push('\n');
        }
        self.raw(&text)
    }

    /// Shows a text as it is, which holds nothing that is foreign and unfit.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn raw(&self, text: &str) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Shows lines in the place of those that were drawn before, on a screen of their own:
    /// as many as the terminal has room for now.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn redraw(&mut self, lines: &[Line]) -> Result<(), Error> {
        let (columns, rows) = size();
        let lines = fit(lines, columns, rows);
        // Its own screen first, without a line that goes on in the next, then home.
        let mut text = String::from(if self.is_drawn { "" } else { "\x1b[?1049h\x1b[?7l" });
        text.push_str("\x1b[H");
        for (number, line) in lines.iter().enumerate() {
            // What was there goes first: behind a line that ends at the edge it would take
            // the last character with it.
            text.push_str(if number == 0 { "\x1b[K" } else { "\r\n\x1b[K" });
            text.push_str(&self.render(line));
        }
        if lines.len() < rows {
            text.push_str("\r\n\x1b[J");
        }
        self.is_drawn = true;
        self.raw(&text)
    }

    /// Leaves the screen that was drawn on, if one was, or the line of a question.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            // A terminal that has gone away needs nothing.
            let _ = self.raw("\x1b[?7h\x1b[?1049l");
        }
        if std::mem::take(&mut self.is_asking) {
            let _ = writeln!(io::stderr());
        }
    }

    /// Says what went wrong, beside what is shown.
    pub fn complain(&mut self, text: &str) {
        self.leave();
        let mut error = io::stderr().lock();
        for line in text.lines() {
            let _ = writeln!(error, "{}", clean(line));
        }
    }

    /// Asks for a yes.
    ///
    /// # Errors
    /// If there is nobody to ask.
    pub async fn ask(&mut self, question: &str) -> Result<bool, Error> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Error::Usage(format!(
                "{question} There is no terminal to ask on: write --yes"
            )));
        }
        let mut error = io::stderr().lock();
        write!(error, "{} [y/N] ", clean(question))?;
        error.flush()?;
        drop(error);
        self.is_asking = true;
        // Beside the signals that are waited for.
        let read = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().lock().read_line(&mut answer).map(|_| answer)
        });
        let answer = read.await.map_err(io::Error::other)??;
        // Who only ended the input is still in the question's line.
        self.is_asking = !answer.ends_with('\n');
        self.leave();
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    fn render(&self, line: &Line) -> String {
        let mut text = String::new();
        for span in &line.0 {
            match code(span.style).filter(|_| self.has_colours) {
                Some(code) => text.push_str(&format!("\x1b[{code}m{}\x1b[0m", span.text())),
                None => text.push_str(span.text()),
            }
        }
        text
    }
}

/// The columns and rows of the terminal; the usual ones if it does not tell.
fn size() -> (usize, usize) {
    let told = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    told.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

const fn code(style: Style) -> Option<&'static str> {
    match style {
        Style::Plain => None,
        Style::Bold => Some("1"),
        Style::Good => Some("32"),
        Style::Warn => Some("33"),
        Style::Bad => Some("31"),
        Style::Dim => Some("2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_and_around_clean_texts() {
        let line = Line::from("a ").and(crate::text::Span::new(Style::Bad, "b\x1b[0m"));
        let screen = |has_colours| Screen {
            is_terminal: true,
            has_colours,
            is_drawn: false,
            is_asking: false,
        };
        assert_eq!(screen(false).render(&line), "a b\\u{1b}[0m");
        assert_eq!(screen(true).render(&line), "a \x1b[31mb\\u{1b}[0m\x1b[0m");
    }
}
