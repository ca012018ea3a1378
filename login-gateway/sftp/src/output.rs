//! Answers on their way out, and the budget of everything that is under way. Whoever has an answer
//! and finds nobody writing, writes: its own and all that come meanwhile, many in one call.

use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::packet::Packet;
use crate::stream::Stream;

/// Most bytes of requests and answers in memory. OpenSSH's client has 64 of the largest writes under
/// way: where one file hangs, there must be room left for requests of others.
const MAX_BYTES: usize = 20 * 1024 * 1024;
/// Most bytes of files that wait for the client: one that does not read has nothing more read for it.
const MAX_OUT: usize = 4 * 1024 * 1024;
/// Most requests under way, since small ones take memory too.
const MAX_REQUESTS: usize = 256;
/// Answers in one `writev(2)`.
const BATCH: usize = 64;
/// Bytes under way above which no answer waits for the next.
const HELD: usize = 64 * 1024;

/// What an answer takes beside its bytes.
const OVERHEAD: usize = 64;

/// A share of the budget, held from the arrival of a request until its answer is there.
#[derive(Debug)]
#[must_use]
pub struct Share {
    bytes: usize,
    /// Of these, what is already counted as an answer.
    out: usize,
}

/// Answers, and what is under way.
#[derive(Debug)]
pub struct Output {
    stream: Stream,
    state: Mutex<State>,
    /// Something has left.
    room: Condvar,
}

#[derive(Debug)]
struct Answer {
    packet: Packet,
    cost: usize,
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Answer>,
    writing: bool,
    /// Threads that wait for room.
    waiting: usize,
    /// Of requests and answers.
    bytes: usize,
    /// Of answers, also of those that are being made.
    out: usize,
    /// Without an answer.
    requests: usize,
    /// Answers that were written since the start.
    written: u64,
}

impl State {
    fn take(&mut self, packet: Packet, share: Share) {
        let cost = Packet::cost(packet.len()) + OVERHEAD;
        self.bytes = self.bytes + cost - share.bytes;
        self.out = self.out + cost - share.out;
        self.requests -= 1;
        self.answers.push_back(Answer { packet, cost });
    }
}

impl Output {
    /// Writes to this stream.
    pub fn to(stream: Stream) -> Self {
        Self {
            stream,
            state: Mutex::default(),
            room: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` more may be under way. A single request is never too large.
    pub fn share(&self, bytes: usize) -> Share {
        let mut state = self.state();
        while state.bytes > 0 && (state.bytes + bytes > MAX_BYTES || state.requests >= MAX_REQUESTS)
        {
            state = self.wait(state);
        }
        state.bytes += bytes;
        state.requests += 1;
        Share { bytes, out: 0 }
    }

    /// Waits until an answer of this many bytes may be made. It is written whatever happens to other
    /// requests, so nothing can wait here for itself.
    pub fn enlarge(&self, share: &mut Share, bytes: usize) {
        let mut state = self.state();
        while state.out > 0 && state.out + bytes > MAX_OUT {
            state = self.wait(state);
        }
        state.bytes += bytes;
        state.out += bytes;
        share.bytes += bytes;
        share.out += bytes;
    }

    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let mut state = self
            .room
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Puts an answer in line, which keeps of its share what it really takes: a client may send
    /// many small requests before it reads. True if the caller must now [`Self::write`].
    #[must_use]
    pub fn push(&self, answer: Packet, share: Share) -> bool {
        let mut state = self.state();
        state.take(answer, share);
        let idle = !std::mem::replace(&mut state.writing, true);
        self.wake(state);
        idle
    }

    /// Puts an answer in line for whoever writes next, while more answers are about to come that can
    /// leave with it. True if there is enough of them: the caller must now [`Self::write`].
    #[must_use]
    pub fn hold(&self, answer: Packet, share: Share) -> bool {
        let mut state = self.state();
        state.take(answer, share);
        let enough = state.answers.len() >= BATCH || state.bytes >= HELD;
        enough && !std::mem::replace(&mut state.writing, true)
    }

    /// Writes what was held and nobody writes.
    ///
    /// # Errors
    /// Those of `writev(2)`: the client is gone.
    pub fn release(&self) -> std::io::Result<()> {
        let mut state = self.state();
        if state.answers.is_empty() || std::mem::replace(&mut state.writing, true) {
            return Ok(());
        }
        drop(state);
        self.write()
    }

    /// Writes until there is nothing left to write.
    ///
    /// # Errors
    /// Those of `writev(2)`: the client is gone.
    pub fn write(&self) -> std::io::Result<()> {
        loop {
            let mut state = self.state();
            let count = state.answers.len().min(BATCH);
            if count == 0 {
                state.writing = false;
                return Ok(());
            }
            let batch: Vec<_> = state.answers.drain(..count).collect();
            drop(state);
            let mut parts: Vec<_> = batch.iter().map(|a| IoSlice::new(&a.packet)).collect();
            write_all(&self.stream, &mut parts)?;
            let bytes: usize = batch.iter().map(|a| a.cost).sum();
            drop(batch);
            let mut state = self.state();
            state.bytes -= bytes;
            state.out -= bytes;
            state.written += count as u64;
            self.wake(state);
        }
    }

    /// Waking costs a system call, also when nobody waits.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let wanted = state.waiting > 0;
        drop(state);
        if wanted {
            self.room.notify_all();
        }
    }

    /// Waits until nothing is under way, or nothing has moved for as long as `patience`.
    pub fn drain(&self, patience: Duration) {
        let mut state = self.state();
        while state.bytes > 0 {
            let written = state.written;
            state.waiting += 1;
            let waited = self.room.wait_timeout(state, patience);
            let (next, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.waiting -= 1;
            if result.timed_out() && state.written == written {
                return;
            }
        }
    }
}

fn write_all(mut stream: &Stream, mut parts: &mut [IoSlice<'_>]) -> std::io::Result<()> {
    while !parts.is_empty() {
        let written = stream.write_vectored(parts)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(())
}
