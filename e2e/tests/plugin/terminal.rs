//! A terminal with a program on it, and what is on its screen.

use std::{num::NonZero, process::Stdio};

use anyhow::{Context, Result, bail};
use signingkeyring_e2e_testbed::world::{DEADLINE, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};
use vt100::{Parser, Screen};

use crate::command;

/// What types Ctrl-C, and what ends the input.
pub const INTERRUPT: &str = "\x03";
pub const END: &str = "\x04";

/// A terminal. `script` has it, and types what it reads.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    output: ChildStdout,
    parser: Parser,
    /// All that it was told.
    pub told: String,
}

impl Terminal {
    /// Runs a line of shell on one of this size.
    pub fn start(world: &World, line: &str, rows: u16, columns: u16) -> Result<Self> {
        // `script` takes the shell of the environment, if it has one, and else `sh`.
        let script =
            "SHELL=$BASH exec script --quiet --return --flush --command \"$LINE\" /dev/null";
        let mut command = command(world, script)?;
        let line = format!("stty rows {rows} cols {columns}; {line}");
        command.env("LINE", line).env("TERM", "xterm").env_remove("NO_COLOR");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        Ok(Self {
            keys: child.stdin.take().context("no input")?,
            output: child.stdout.take().context("no output")?,
            child,
            parser: Parser::new(
                NonZero::new(rows).context("no rows")?,
                NonZero::new(columns).context("no columns")?,
                0,
            ),
            told: String::new(),
        })
    }

    /// What is on it.
    pub fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    /// Waits until the screen is as it should be.
    pub async fn wait(&mut self, what: &str, holds: impl Fn(&Screen) -> bool) -> Result<()> {
        let until = async {
            while !holds(self.parser.screen()) {
                if self.read().await? == 0 {
                    bail!("it ended");
                }
            }
            Ok(())
        };
        let waited = timeout(DEADLINE, until).await;
        let waited = waited.map_err(Into::into).flatten();
        waited.with_context(|| format!("{what}:\n{}", self.parser.screen().contents()))
    }

    /// Waits until it shows a text.
    pub async fn shows(&mut self, text: &str) -> Result<()> {
        self.wait(&format!("{text:?} is not shown"), |screen| screen.contents().contains(text))
            .await
    }

    /// Types.
    pub async fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).await?;
        self.keys.flush().await?;
        Ok(())
    }

    /// Waits for the program's end; returns its code.
    pub async fn end(&mut self) -> Result<Option<i32>> {
        let until = async {
            while self.read().await? > 0 {}
            anyhow::Ok(self.child.wait().await?.code())
        };
        let ended = timeout(DEADLINE, until).await;
        ended.with_context(|| format!("it does not end:\n{}", self.parser.screen().contents()))?
    }

    async fn read(&mut self) -> Result<usize> {
        let mut bytes = [0; 4096];
        let count = self.output.read(&mut bytes).await?;
        let new = bytes.get(..count).unwrap_or_default();
        self.parser.process(new);
        self.told.push_str(&String::from_utf8_lossy(new));
        Ok(count)
    }
}
