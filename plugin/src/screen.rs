//! Where lines go: a terminal, with colours unless `NO_COLOR` is set, or a log, without.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::{
    error::Error,
    text::{Line, Style, clean},
};

/// Standard output, and what is known of it.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    has_colours: bool,
    /// How many lines the last drawing has, while it may be drawn over.
    drawn: Option<usize>,
}

impl Screen {
    /// The process's.
    pub fn standard() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let refused = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            is_terminal,
            has_colours: is_terminal && !refused("NO_COLOR") && !is_dumb,
            drawn: None,
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

    /// Shows lines in the place of those that were drawn before, on a screen of their own.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn redraw(&mut self, lines: &[Line]) -> Result<(), Error> {
        // Its own screen first, where long lines are cut, then home; each line is ended by what clears its rest.
        let mut text = String::from(if self.drawn.is_none() { "\x1b[?1049h\x1b[?7l" } else { "" });
        text.push_str("\x1b[H");
        for line in lines {
            text.push_str(&self.render(line));
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b[J");
        self.drawn = Some(lines.len());
        self.raw(&text)
    }

    /// Leaves the screen that was drawn on, if one was.
    pub fn leave(&mut self) {
        if self.drawn.take().is_some() {
            // A terminal that has gone away needs nothing.
            let _ = self.raw("\x1b[?7h\x1b[?1049l");
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
    pub async fn ask(&self, question: &str) -> Result<bool, Error> {
        if !io::stdin().is_terminal() {
            return Err(Error::Usage(format!(
                "{question} There is no terminal to ask on: write --yes"
            )));
        }
        let mut error = io::stderr().lock();
        write!(error, "{} [y/N] ", clean(question))?;
        error.flush()?;
        drop(error);
        // Beside the signals that are waited for.
        let read = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().lock().read_line(&mut answer).map(|_| answer)
        });
        let answer = read.await.map_err(io::Error::other)??;
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
        let screen = |has_colours| Screen { is_terminal: true, has_colours, drawn: None };
        assert_eq!(screen(false).render(&line), "a b\\u{1b}[0m");
        assert_eq!(screen(true).render(&line), "a \x1b[31mb\\u{1b}[0m\x1b[0m");
    }
}
