//! Who reads the client's packets. A lone request is done by the reader itself, since waking another
//! thread costs more than most requests do; meanwhile it lends the input out. If the request takes
//! long, the thread that stands by takes the input over, and the two change places: a slow file
//! never keeps other requests from being read.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the one who stands by looks. Requests behind a slow one wait for two looks at most.
const LOOK: Duration = Duration::from_millis(5);

/// The input while nobody reads.
#[derive(Debug)]
pub struct Relay<I> {
    state: Mutex<State<I>>,
    active: Condvar,
}

#[derive(Debug)]
struct State<I> {
    lent: Option<I>,
    /// How often it was lent.
    times: u64,
    /// Something was lent since the last look.
    active: bool,
}

impl<I> Default for Relay<I> {
    fn default() -> Self {
        let state = State {
            lent: None,
            times: 0,
            active: false,
        };
        Self {
            state: Mutex::new(state),
            active: Condvar::new(),
        }
    }
}

impl<I> Relay<I> {
    fn state(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the input out of hand.
    pub fn lend(&self, input: I) {
        let mut state = self.state();
        state.lent = Some(input);
        state.times += 1;
        if !std::mem::replace(&mut state.active, true) {
            drop(state);
            self.active.notify_one();
        }
    }

    /// Takes it back; `None` if it has been taken over.
    pub fn take_back(&self) -> Option<I> {
        self.state().lent.take()
    }

    /// Waits until the input has been lent for long, and takes it over.
    pub fn stand_by(&self) -> I {
        let mut state = self.state();
        loop {
            while !state.active {
                state = self
                    .active
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let seen = state.times;
            let waited = self.active.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.times == seen {
                match state.lent.take() {
                    Some(input) => return input,
                    // It is read, and nothing comes: no need to look again until something does.
                    None => state.active = false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_lent_for_long_changes_hands() {
        let relay = Arc::new(Relay::default());
        relay.lend(1);
        assert_eq!(relay.take_back(), Some(1));
        let other = Arc::clone(&relay);
        let taker = std::thread::spawn(move || other.stand_by());
        relay.lend(2);
        assert_eq!(taker.join().unwrap(), 2);
        assert_eq!(relay.take_back(), None);
    }
}
