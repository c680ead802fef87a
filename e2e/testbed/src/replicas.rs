//! Replicas of the operator of which one leads: as many processes as its Deployment has
//! Pods, each with a name and a log of its own.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use crate::{
    operator::{Installed, Operator, Role, Way},
    world::{DEADLINE, World},
};

/// How often it is looked who leads.
const LOOK: Duration = Duration::from_millis(25);

/// Replicas of the operator.
#[derive(Debug)]
pub struct Replicas {
    world: World,
    guard: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    /// Those that run.
    pub running: Vec<Operator>,
    started: usize,
}

impl Replicas {
    /// None yet, each to be started with these settings.
    #[must_use]
    pub fn new(world: &World, guard: PathBuf, program: PathBuf, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().copied().chain(["--leader-elect"]);
        Self {
            world: world.clone(),
            guard,
            program,
            arguments: arguments.map(str::to_owned).collect(),
            running: Vec::new(),
            started: 0,
        }
    }

    /// Those that are started from now on run another program.
    pub fn upgrade(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Starts one more and waits until it is ready.
    ///
    /// # Errors
    /// If it is not; the text has the end of its log.
    pub async fn start(&mut self) -> Result<()> {
        let server = self.world.info.server.clone();
        self.start_at(&server).await
    }

    /// Starts one more, to which the API server is somewhere else.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub async fn start_at(&mut self, server: &str) -> Result<()> {
        self.started += 1;
        let name = format!("operator-{}", self.started);
        let way = Way { name: &name, server };
        let replica = format!("--replica={name}");
        let mut arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        arguments.push(&replica);
        let (guard, program, installed) = (&self.guard, &self.program, Installed::default());
        let operator =
            Operator::start_on(&self.world, guard, program, &installed, way, &arguments).await?;
        self.running.push(operator);
        Ok(())
    }

    /// Which of them leads.
    pub async fn leader(&self) -> Option<usize> {
        for (index, replica) in self.running.iter().enumerate() {
            if replica.role().await == Some(Role::Leader) {
                return Some(index);
            }
        }
        None
    }

    /// Waits until one of them leads.
    ///
    /// # Errors
    /// If none does in time.
    pub async fn until_led(&self) -> Result<usize> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(leader) = self.leader().await {
                return Ok(leader);
            }
            (Instant::now() < deadline).then_some(()).context("no replica leads")?;
            sleep(LOOK).await;
        }
    }

    /// Takes out the one that leads.
    ///
    /// # Errors
    /// If none does in time.
    pub async fn take_leader(&mut self) -> Result<Operator> {
        let leader = self.until_led().await?;
        Ok(self.running.remove(leader))
    }

    /// Asks all of them to end.
    ///
    /// # Errors
    /// If one does not.
    pub async fn stop_all(&mut self) -> Result<()> {
        for replica in self.running.drain(..) {
            replica.stop().await?;
        }
        Ok(())
    }

    /// Ends all of them as a crash would.
    ///
    /// # Errors
    /// If one cannot be waited for.
    pub async fn kill_all(&mut self) -> Result<()> {
        for replica in self.running.drain(..) {
            replica.kill().await?;
        }
        Ok(())
    }
}
