//! Who is next: each request waits for the earlier ones that it must not overtake (`order`), and is
//! then done by whichever worker is free. No worker ever waits for another request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::order::Touched;

/// A queue of requests, each known by the number of its arrival.
#[derive(Debug)]
pub struct Schedule<J> {
    state: Mutex<State<J>>,
    work: Condvar,
    idle: Condvar,
}

#[derive(Debug)]
struct State<J> {
    arrivals: u64,
    /// All that arrived and are not finished.
    pending: BTreeMap<u64, Pending<J>>,
    ready: VecDeque<(u64, J)>,
    waiting_workers: usize,
    /// Somebody waits until nothing is pending.
    settling: bool,
    /// What was pending for too long when somebody did.
    stuck: Option<u64>,
}

#[derive(Debug)]
struct Pending<J> {
    touched: Touched,
    /// How many earlier ones it waits for, and what it is. Gone when it may start.
    held: Option<(usize, J)>,
    /// Who waits for it.
    followers: Vec<u64>,
}

impl<J> Default for Schedule<J> {
    fn default() -> Self {
        let state = State {
            arrivals: 0,
            pending: BTreeMap::new(),
            ready: VecDeque::new(),
            waiting_workers: 0,
            settling: false,
            stuck: None,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            idle: Condvar::new(),
        }
    }
}

impl<J> Schedule<J> {
    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request. The answer is true if it may start and no worker was there to be woken.
    pub fn add(&self, touched: Touched, job: J) -> bool {
        let mut state = self.state();
        let number = state.arrivals;
        state.arrivals += 1;
        let mut waits = 0;
        // Order along a handle is passed on: waiting for its latest request is waiting for all.
        let mut known: Vec<u32> = Vec::new();
        for earlier in state.pending.values_mut().rev() {
            let passed_on = earlier.touched.handles().any(|h| known.contains(&h));
            let same = earlier.touched.shares_handle(&touched);
            if passed_on && same {
                continue;
            }
            if same || earlier.touched.meets(&touched) {
                earlier.followers.push(number);
                waits += 1;
            }
            if same {
                known.extend(
                    earlier
                        .touched
                        .handles()
                        .filter(|h| touched.handles().any(|o| o == *h)),
                );
            }
        }
        let held = if waits > 0 {
            Some((waits, job))
        } else {
            state.ready.push_back((number, job));
            None
        };
        let starts = held.is_none();
        state.pending.insert(
            number,
            Pending {
                touched,
                held,
                followers: Vec::new(),
            },
        );
        let woken = starts && state.waiting_workers >= state.ready.len();
        drop(state);
        if woken {
            self.work.notify_one();
        }
        starts && !woken
    }

    /// Waits a moment until nothing is pending. Not again for one that took longer.
    pub fn settle(&self, patience: Duration) -> bool {
        let mut state = self.state();
        let oldest = state.pending.keys().next().copied();
        if oldest.is_none() || oldest == state.stuck {
            return oldest.is_none();
        }
        state.settling = true;
        let (mut state, result) = self
            .idle
            .wait_timeout_while(state, patience, |state| !state.pending.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.settling = false;
        if result.timed_out() {
            state.stuck = state.pending.keys().next().copied();
        }
        state.pending.is_empty()
    }

    /// Takes a request that is to be done at once by the caller, if nothing at all is pending.
    pub fn alone(&self, touched: Touched, job: J) -> Result<(u64, J), (Touched, J)> {
        let mut state = self.state();
        if !state.pending.is_empty() {
            return Err((touched, job));
        }
        let number = state.arrivals;
        state.arrivals += 1;
        state.pending.insert(
            number,
            Pending {
                touched,
                held: None,
                followers: Vec::new(),
            },
        );
        Ok((number, job))
    }

    /// A request that may start, if there is one.
    pub fn try_next(&self) -> Option<(u64, J)> {
        self.state().ready.pop_front()
    }

    /// Waits for a request that may start.
    pub fn next(&self) -> (u64, J) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.ready.pop_front() {
                return job;
            }
            state.waiting_workers += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting_workers -= 1;
        }
    }

    /// Notes that a request is done. The caller goes on with the next itself unless it is `busy`.
    /// The answer is true if more may start than there are workers to be woken.
    pub fn finish(&self, number: u64, busy: bool) -> bool {
        let mut state = self.state();
        let Some(done) = state.pending.remove(&number) else {
            return false;
        };
        let mut started = 0;
        for follower in done.followers {
            let Some(pending) = state.pending.get_mut(&follower) else {
                continue;
            };
            if let Some((waits, job)) = pending.held.take() {
                if waits > 1 {
                    pending.held = Some((waits - 1, job));
                } else {
                    state.ready.push_back((follower, job));
                    started += 1;
                }
            }
        }
        let wanted = if busy { started } else { started.max(1) - 1 };
        let woken = wanted.min(state.waiting_workers);
        let settled = state.settling && state.pending.is_empty();
        drop(state);
        if settled {
            self.idle.notify_one();
        }
        for _ in 0..woken {
            self.work.notify_one();
        }
        wanted > woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;
    use crate::request::Request;

    fn touched(request: &Request) -> Touched {
        let opened = |id: u32| Some(format!("/file{id}").into_bytes());
        Touched::by(request, <[u8]>::to_vec, opened)
    }

    fn read(id: u32) -> Touched {
        touched(&Request::Read {
            handle: Some(id),
            offset: 0,
            length: 1,
        })
    }

    /// What may start now, taken from the queue.
    fn ready(schedule: &Schedule<char>) -> String {
        let count = schedule.state().ready.len();
        (0..count).map(|_| schedule.next().1).collect()
    }

    #[test]
    fn handles_overtake_each_other_and_never_themselves() {
        let schedule = Schedule::default();
        for (id, name) in [(1, 'a'), (1, 'b'), (2, 'x'), (1, 'c'), (2, 'y')] {
            schedule.add(read(id), name);
        }
        assert_eq!(ready(&schedule), "ax");
        schedule.finish(2, false);
        assert_eq!(ready(&schedule), "y");
        schedule.finish(0, false);
        assert_eq!(ready(&schedule), "b");
        schedule.finish(1, false);
        assert_eq!(ready(&schedule), "c");
        schedule.finish(3, false);
        schedule.finish(4, false);
        assert!(schedule.state().pending.is_empty());
    }

    #[test]
    fn a_name_waits_for_all_that_touch_it() {
        let schedule = Schedule::default();
        schedule.add(read(1), 'a');
        schedule.add(read(2), 'b');
        let mkdir = |path: &[u8]| {
            let attributes = Attributes::default();
            touched(&Request::Mkdir {
                path: path.into(),
                attributes,
            })
        };
        schedule.add(mkdir(b"/file1"), 'm');
        schedule.add(mkdir(b"/file1/below"), 'n');
        assert_eq!(ready(&schedule), "ab");
        schedule.finish(0, false);
        assert_eq!(ready(&schedule), "m");
        schedule.finish(2, false);
        assert_eq!(ready(&schedule), "n");
    }

    #[test]
    fn alone_only_when_nothing_is_pending() {
        let schedule = Schedule::default();
        assert!(schedule.alone(read(1), 'a').is_ok());
        assert!(schedule.alone(read(2), 'b').is_err());
        assert!(schedule.add(read(2), 'b'), "no worker is there");
        schedule.finish(0, false);
        schedule.finish(1, false);
        assert!(schedule.alone(read(2), 'b').is_ok());
    }
}
