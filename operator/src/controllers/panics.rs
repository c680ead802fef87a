//! Panics of passes: each is a failure of its own pass.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;

use crate::{error::Error, workqueue::Outcome};

/// Makes a pass. A panic in it is a failure of it, and ends no other work.
pub(super) async fn catching_panics<E: From<Error>>(
    pass: impl Future<Output = Result<Outcome, E>>,
) -> Result<Outcome, E> {
    // What a pass leaves half done is a start state like any other, and the
    // caches' locks are taken although a panic has poisoned them.
    let caught = AssertUnwindSafe(pass).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(Error::Panic(message(&*panic)).into()))
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it said nothing").to_owned()
}

/// What an event says of a panic: nothing that it said itself, which may be
/// made of foreign data.
pub(super) const PANICKED: &str = "a pass over this object ended in a panic, which is a defect of the \
                        operator; it is tried again. Report it with the operator's log";

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use super::*;
    use crate::workqueue::{Pass, WorkQueue};

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_one_pass_backs_off_and_ends_no_other() {
        let queue = WorkQueue::<String>::default();
        queue.wake("broken");
        queue.wake("sound");
        let log = Mutex::new(Vec::new());
        let work = queue.run(
            2,
            || 2,
            |name| {
                log.lock().unwrap().push(name.clone());
                async move {
                    let pass = async {
                        tokio::task::yield_now().await;
                        assert_ne!(name, "broken", "foreign data");
                        Ok(Outcome::RequeueAfter(Duration::from_secs(1)))
                    };
                    let outcome = match catching_panics(pass).await {
                        Ok(outcome) => outcome,
                        Err(Error::Panic(text)) => {
                            assert!(text.contains("foreign data"), "{text}");
                            Outcome::Failed
                        }
                        Err(other) => panic!("{other}"),
                    };
                    Pass { outcome, key: None, under_way: false }
                }
            },
        );
        assert!(tokio::time::timeout(Duration::from_millis(7600), work).await.is_err());
        let passes = log.into_inner().unwrap();
        let count = |of: &str| passes.iter().filter(|name| *name == of).count();
        assert_eq!(count("sound"), 8, "once a second");
        assert_eq!(count("broken"), 5, "after 0, 0.25, 0.75, 1.75 and 3.75 seconds");
    }
}
