//! How a life ends: an error a handler returns, and a panic caught with its place.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Once};

use gemba_core::exit::ExitReason;

/// What a handler returns to end its actor. `?` turns any error into one.
///
/// # Examples
///
/// ```
/// use gemba_kernel::Stop;
///
/// fn parse(text: &str) -> Result<u64, Stop> {
///     Ok(text.parse::<u64>()?) // An error ends the actor; its supervisor decides what follows.
/// }
/// assert!(parse("7").is_ok());
/// assert!(parse("seven").is_err());
/// ```
#[derive(Debug)]
#[must_use = "a handler ends its actor by returning it: Err(stop)"]
pub struct Stop(pub(crate) Why);

#[derive(Debug)]
pub(crate) enum Why {
    Ends(ExitReason),
    Ignores,
}

impl Stop {
    /// The actor has nothing more to do.
    pub fn normal() -> Self {
        Self(Why::Ends(ExitReason::Normal))
    }

    /// The actor ends on purpose and says why; a transient child stays down.
    pub fn shutdown(why: impl Into<Arc<str>>) -> Self {
        Self(Why::Ends(ExitReason::ShutdownWith { why: why.into() }))
    }

    /// The actor cannot go on.
    pub fn error(message: impl Into<Arc<str>>) -> Self {
        Self(Why::Ends(ExitReason::Error { message: message.into() }))
    }

    /// The actor declines to run: its start is no failure, and its place stays empty. Returned from `init`;
    /// anywhere else it is [`normal`](Self::normal).
    pub fn ignore() -> Self {
        Self(Why::Ignores)
    }
}

impl<E: std::error::Error + 'static> From<E> for Stop {
    fn from(error: E) -> Self {
        // The reason of somebody else's end stays what it is: a clean one is no crash.
        let reason = (&error as &(dyn std::error::Error + 'static)).downcast_ref::<ExitReason>().cloned();
        Self(Why::Ends(reason.unwrap_or_else(|| ExitReason::error(&error))))
    }
}

/// Why a life ends whose handler returned this.
pub(crate) fn reason_of(result: Result<(), Stop>) -> ExitReason {
    match result {
        Ok(()) | Err(Stop(Why::Ignores)) => ExitReason::Normal,
        Err(Stop(Why::Ends(reason))) => reason,
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Makes the panic hook remember where a guarded future panicked, instead of printing it: the journal
/// will have the exit with message and place. Other panics go to the hook that was there before.
pub(crate) fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDED.get() {
                let location =
                    info.location().map(|place| format!("{}:{}", place.file(), place.line()).into());
                LOCATION.with_borrow_mut(|slot| *slot = location);
            } else {
                previous(info);
            }
        }));
    });
}

struct Guarding(bool);

impl Guarding {
    fn enter() -> Self {
        Self(GUARDED.replace(true))
    }
}

impl Drop for Guarding {
    fn drop(&mut self) {
        GUARDED.set(self.0);
    }
}

/// Runs `future` and turns a panic into an exit reason.
pub(crate) async fn guarded<T>(future: impl Future<Output = T>) -> Result<T, ExitReason> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _guarding = Guarding::enter();
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => std::task::Poll::Ready(Err(panic_reason(&*payload))),
        }
    })
    .await
}

/// Runs `call` and turns a panic into an exit reason.
pub(crate) fn guarded_call<T>(call: impl FnOnce() -> T) -> Result<T, ExitReason> {
    let _guarding = Guarding::enter();
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| panic_reason(&*payload))
}

fn panic_reason(payload: &(dyn Any + Send)) -> ExitReason {
    let message: Arc<str> = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str().into()
    } else {
        "a panic without a text".into()
    };
    ExitReason::Panic { message, location: LOCATION.with_borrow_mut(Option::take) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_message_and_place() {
        install_panic_hook();
        let line = line!() + 1;
        let reason = guarded(async { panic!("lost {}", 7) }).await.unwrap_err();
        let ExitReason::Panic { message, location } = reason else { panic!("{reason:?}") };
        assert_eq!(&*message, "lost 7");
        assert!(location.unwrap().ends_with(&format!("exit.rs:{line}")));
    }

    #[test]
    fn an_error_ends_an_actor_with_its_text() {
        let stop: Stop = "x".parse::<u8>().unwrap_err().into();
        assert_eq!(reason_of(Err(stop)).to_string(), "error: invalid digit found in string");
    }
}
