//! What happens to an operator's watches: they lag, lose events, or close.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tower::BoxError;

use super::{fault::ReadFault, response::ResponseBody, view::View};

/// A watch that is behind by N events would stay behind for ever once nothing
/// more happens; so an event is held for this long at most, N times.
pub const LAG: Duration = Duration::from_secs(1);

/// For how long events are lost before the watch says that it has to list.
const LOSING: Duration = Duration::from_secs(4);

/// Which events after the beginning close their watch with 410.
const CLOSING: [usize; 2] = [1, 3];

/// The fault of all watches of one operator, and how far each has come.
#[derive(Debug, Default)]
pub struct WatchFaults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    fault: Option<ReadFault>,
    events: HashMap<String, usize>,
    lost: HashMap<String, Loss>,
    struck: bool,
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    Since(Instant),
    Over,
}

/// What is to be done with a line of a watch.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Hold { events: usize },
    Lose { until: Instant },
    Close,
}

impl WatchFaults {
    /// From now on the fault is there.
    pub fn arm(&self, fault: ReadFault) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { fault: Some(fault), ..State::default() };
    }

    /// Whether an event was held, lost or swallowed by a closing watch.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).struck
    }

    fn judge(&self, resource: &str, now: Instant) -> Verdict {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = state.judge(resource, now);
        state.struck |= verdict != Verdict::Pass;
        verdict
    }

    fn noticed(&self, resource: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lost.insert(resource.to_owned(), Loss::Over);
    }
}

impl State {
    fn judge(&mut self, resource: &str, now: Instant) -> Verdict {
        let Some(fault) = self.fault else { return Verdict::Pass };
        let events = self.events.entry(resource.to_owned()).or_default();
        *events += 1;
        let events = *events;
        match fault {
            ReadFault::Lag(events) => Verdict::Hold { events: usize::from(events) },
            ReadFault::Gone if CLOSING.contains(&events) => Verdict::Close,
            ReadFault::Gone => Verdict::Pass,
            ReadFault::Dropped => {
                match *self.lost.entry(resource.to_owned()).or_insert(Loss::Since(now)) {
                    Loss::Since(start) => Verdict::Lose { until: start + LOSING },
                    Loss::Over => Verdict::Pass,
                }
            }
        }
    }
}

const EXPIRED: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;

/// Hands on the lines of a watch as the fault wants it. Ends with either side.
#[must_use]
pub fn relay(
    body: Body,
    view: Option<View>,
    faults: Arc<WatchFaults>,
    resource: &str,
) -> ResponseBody {
    let (lines, received) = mpsc::channel::<Bytes>(64);
    let resource = resource.to_owned();
    let line = Lines { body, rest: Vec::new(), view };
    tokio::spawn(async move { hand_on(line, &lines, &faults, &resource).await });
    let frames = stream::unfold(received, |mut received| async move {
        let line = received.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(line)), received))
    });
    StreamBody::new(frames).boxed_unsync()
}

async fn hand_on(mut from: Lines, to: &mpsc::Sender<Bytes>, faults: &WatchFaults, resource: &str) {
    let mut held: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let mut keep = 0;
    let mut end = None;
    loop {
        while held.len() > keep || held.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let Some((_, line)) = held.pop_front() else { break };
            if to.send(line).await.is_err() {
                return;
            }
        }
        let due = held.front().map(|(due, _)| *due).or(end);
        let alarm = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = to.closed() => return,
            () = alarm => {
                if end.is_some() {
                    faults.noticed(resource);
                    return close(to).await;
                }
            }
            line = from.next() => {
                // What was held is lost with the connection, as it should be:
                // the client goes on from what it has received.
                let Some(line) = line else { return };
                let now = Instant::now();
                match faults.judge(resource, now) {
                    Verdict::Pass => held.push_back((now, line)),
                    Verdict::Hold { events } => {
                        keep = events;
                        let count = u32::try_from(events).unwrap_or(u32::MAX);
                        held.push_back((now + LAG * count, line));
                    }
                    Verdict::Lose { until } => end = Some(until),
                    Verdict::Close => return close(to).await,
                }
            }
        }
    }
}

async fn close(to: &mpsc::Sender<Bytes>) {
    // Whoever has gone need not be told.
    let _ = to.send(Bytes::from_static(EXPIRED.as_bytes())).await;
    let _ = to.send(Bytes::from_static(b"\n")).await;
}

/// The lines of a watch's body.
struct Lines {
    body: Body,
    rest: Vec<u8>,
    view: Option<View>,
}

impl Lines {
    /// May be dropped at any time without a loss.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(match &self.view {
                    Some(view) => Bytes::from(view.inward(&String::from_utf8_lossy(&line))),
                    None => Bytes::from(line),
                });
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(fault: Option<ReadFault>, lines: &[&str]) -> Vec<String> {
        let faults = WatchFaults::default();
        if let Some(fault) = fault {
            faults.arm(fault);
        }
        let (to, mut received) = mpsc::channel(64);
        let body = Body::from(
            lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes(),
        );
        let lines = Lines { body, rest: Vec::new(), view: None };
        hand_on(lines, &to, &faults, "secrets").await;
        drop(to);
        let mut all = Vec::new();
        while let Some(line) = received.recv().await {
            all.push(String::from_utf8_lossy(&line).trim().to_owned());
        }
        all.into_iter().filter(|line| !line.is_empty()).collect()
    }

    #[tokio::test]
    async fn without_a_fault_all_passes() {
        assert_eq!(received(None, &["a", "b", "c"]).await, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_watch_lags_by_so_many_events() {
        let lines = ["a", "b", "c", "d"];
        assert_eq!(received(Some(ReadFault::Lag(2)), &lines).await, ["a", "b"]);
        assert!(received(Some(ReadFault::Lag(5)), &lines).await.is_empty());
    }

    #[tokio::test]
    async fn a_watch_is_closed_instead_of_its_event() {
        let lines = received(Some(ReadFault::Gone), &["a", "b"]).await;
        assert_eq!(lines, [EXPIRED]);
    }

    #[tokio::test]
    async fn events_are_lost() {
        assert!(received(Some(ReadFault::Dropped), &["a", "b"]).await.is_empty());
    }
}
