//! A slow way to Kyverno: whatever is asked on it arrives after some seconds, however
//! many ask at once.

use std::time::Duration;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// How much later what is asked arrives, in turn.
const DELAYS: [u64; 6] = [3, 8, 5, 4, 7, 6];

/// So long a connection is as quick as any: TLS is agreed on by then.
const HANDSHAKE: Duration = Duration::from_millis(300);

/// A port that leads to another one; it ends with this value.
#[derive(Debug)]
pub struct SlowWay {
    /// The port on 127.0.0.1.
    pub port: u16,
    serving: JoinHandle<()>,
}

impl SlowWay {
    /// A slow way to a port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = listener.local_addr()?.port();
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(lead(connection, port));
            }
        });
        Ok(Self { port: own, serving })
    }
}

impl Drop for SlowWay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Either side may just drop the connection: that is how HTTP clients end.
async fn lead(connection: TcpStream, port: u16) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (asked, mut answer) = connection.into_split();
    let (mut answered, ask) = server.into_split();
    tokio::join!(delay(asked, ask), async {
        let _ = copy(&mut answered, &mut answer).await;
    });
}

/// Passes on what comes, later and in its order.
async fn delay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let start = Instant::now();
    let read = async move {
        let (mut delays, mut buffer) = (DELAYS.iter().cycle(), vec![0; 65_536]);
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let late = if start.elapsed() < HANDSHAKE { 0 } else { *delays.next().unwrap_or(&3) };
            let at = Instant::now() + Duration::from_secs(late);
            if sender.send((at, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    };
    let write = async {
        while let Some((at, bytes)) = receiver.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
