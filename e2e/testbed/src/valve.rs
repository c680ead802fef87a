//! A way to a port on which what is sent can be held: it is on its way, for as long as one
//! likes. What comes back is never held.

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

/// How far the valve is, and the most that was sent at once and waits behind it.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    closed: bool,
    largest: usize,
}

/// A port that leads to another one; it ends with this value.
#[derive(Debug)]
pub struct Valve {
    /// The port on 127.0.0.1.
    pub port: u16,
    state: watch::Sender<State>,
    serving: JoinHandle<()>,
}

impl Valve {
    /// An open way to a port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = listener.local_addr()?.port();
        let state = watch::Sender::new(State::default());
        let valve = state.clone();
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(lead(connection, port, valve.clone()));
            }
        });
        Ok(Self { port: own, state, serving })
    }

    /// Holds what is sent from now on.
    pub fn close(&self) {
        self.state.send_replace(State { closed: true, largest: 0 });
    }

    /// Lets go of it.
    pub fn open(&self) {
        self.state.send_replace(State::default());
    }

    /// The bytes of the largest message that is held.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.state.borrow().largest
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Either side may just drop the connection: that is how HTTP clients end.
async fn lead(connection: TcpStream, port: u16, state: watch::Sender<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (asked, mut answer) = connection.into_split();
    let (mut answered, ask) = server.into_split();
    tokio::join!(pass(asked, ask, state), async {
        let _ = copy(&mut answered, &mut answer).await;
    });
}

/// Passes on what comes, in its order, unless it is held.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: watch::Sender<State>) {
    let mut opened = state.subscribe();
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        state.send_if_modified(|state| {
            if state.closed {
                state.largest = state.largest.max(length);
            }
            false
        });
        if opened.wait_for(|state| !state.closed).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            break;
        }
    }
    let _ = to.shutdown().await;
}
