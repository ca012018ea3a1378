//! Answers on their way out, and the budget of everything that is under way. Whoever has an answer
//! and finds nobody writing, writes: its own and all that come meanwhile, many in one call.

use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::packet::Packet;
use crate::stream::Stream;

/// Most bytes of requests and answers in memory: a client that does not read is not read either.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Most requests under way, since small ones take memory too.
const MAX_REQUESTS: usize = 256;
/// Answers in one `writev(2)`.
const BATCH: usize = 64;

/// What an answer takes beside its bytes.
const OVERHEAD: usize = 64;

/// A share of the budget, held from the arrival of a request until its answer is there.
#[derive(Debug)]
#[must_use]
pub struct Share(usize);

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
    /// Of requests and answers.
    bytes: usize,
    /// Without an answer.
    requests: usize,
    /// Answers that were written since the start.
    written: u64,
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
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += bytes;
        state.requests += 1;
        Share(bytes)
    }

    /// Puts an answer in line, which keeps of its share what it really takes: a client may send
    /// many small requests before it reads. True if the caller must now [`Self::write`].
    #[must_use]
    pub fn push(&self, answer: Packet, share: Share) -> bool {
        let keeps = Packet::cost(answer.len()) + OVERHEAD;
        let mut state = self.state();
        state.bytes = state.bytes + keeps - share.0;
        state.requests -= 1;
        let answer = Answer {
            packet: answer,
            cost: keeps,
        };
        state.answers.push_back(answer);
        let idle = !std::mem::replace(&mut state.writing, true);
        drop(state);
        self.room.notify_one();
        idle
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
            state.written += count as u64;
            drop(state);
            self.room.notify_one();
        }
    }

    /// Waits until nothing is under way, or nothing has moved for as long as `patience`.
    pub fn drain(&self, patience: Duration) {
        let mut state = self.state();
        while state.bytes > 0 {
            let written = state.written;
            let waited = self.room.wait_timeout(state, patience);
            let (next, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = next;
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
