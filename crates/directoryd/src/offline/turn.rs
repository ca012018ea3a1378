//! Who may do what one alone may do at a time, and how many wait for it.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Whose turn it is, and how many wait.
#[derive(Debug, Default)]
pub struct Turn {
    taken: Mutex<(bool, usize)>,
    free: Condvar,
}

/// It is somebody's turn until this is dropped.
#[derive(Debug)]
pub struct Taken<'a>(&'a Turn);

impl Turn {
    /// The turn; `None` if too many wait, or for too long.
    pub fn take(&self, most: usize, patience: Duration) -> Option<Taken<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.1 >= most {
            return None;
        }
        taken.1 += 1;
        let (mut taken, _) = self
            .free
            .wait_timeout_while(taken, patience, |(taken, _)| *taken)
            .unwrap_or_else(PoisonError::into_inner);
        taken.1 -= 1;
        if taken.0 {
            return None;
        }
        taken.0 = true;
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0 = false;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_few_wait() {
        let turn = Turn::default();
        let first = turn.take(1, Duration::ZERO);
        assert!(first.is_some());
        assert!(turn.take(1, Duration::from_millis(1)).is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| turn.take(1, Duration::from_secs(60)).is_some());
            while turn.taken.lock().unwrap().1 == 0 {
                std::thread::yield_now();
            }
            assert!(turn.take(1, Duration::from_secs(60)).is_none());
            drop(first);
            assert!(second.join().unwrap());
        });
        assert!(turn.take(1, Duration::ZERO).is_some());
    }
}
