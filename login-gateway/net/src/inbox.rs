//! What a client has sent and its program has not read yet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Pieces below this size, in bytes, are joined: a crowd of tiny packets must not cost an
/// allocation each.
const SMALL: usize = 1024;

/// A queue of bytes with one writer and one reader. Pushing never waits.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    len: AtomicUsize,
    changed: Notify,
    taken: Notify,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    /// The newest bytes, behind all pieces.
    small: Vec<u8>,
    ended: bool,
    refused: bool,
}

impl Inbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds bytes.
    pub fn push(&self, data: Bytes) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.refused || waiting.ended {
            return;
        }
        self.len.fetch_add(data.len(), Ordering::Relaxed);
        if data.len() < SMALL {
            waiting.small.extend_from_slice(&data);
        } else {
            if !waiting.small.is_empty() {
                let small = std::mem::take(&mut waiting.small);
                waiting.pieces.push_back(small.into());
            }
            waiting.pieces.push_back(data);
        }
        self.changed.notify_one();
    }

    /// No more will come.
    pub fn end(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ended = true;
        self.changed.notify_one();
    }

    /// Whether no more will come.
    pub fn ended(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner).ended
    }

    /// Nobody reads any more: what waits is dropped, and so is all that comes.
    pub fn refuse(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Waiting {
            refused: true,
            ended: true,
            ..Waiting::default()
        };
        self.len.store(0, Ordering::Relaxed);
        self.changed.notify_one();
        self.taken.notify_one();
    }

    /// Resolves when no more than so many bytes wait. For one task at a time.
    pub async fn at_most(&self, bytes: usize) {
        while self.len() > bytes {
            self.taken.notified().await;
        }
    }

    /// The next bytes, in order; `None` when all have been taken and no more will come.
    pub async fn pop(&self) -> Option<Bytes> {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let next = waiting.pieces.pop_front().or_else(|| {
                    let small = std::mem::take(&mut waiting.small);
                    (!small.is_empty()).then(|| small.into())
                });
                if let Some(data) = next {
                    self.len.fetch_sub(data.len(), Ordering::Relaxed);
                    self.taken.notify_one();
                    return Some(data);
                }
                if waiting.ended {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_order_joins_the_small_and_counts() {
        let inbox = Inbox::default();
        let big = Bytes::from(vec![7; SMALL]);
        for piece in [&b"a"[..], b"b"] {
            inbox.push(Bytes::copy_from_slice(piece));
        }
        inbox.push(big.clone());
        inbox.push(Bytes::from_static(b"c"));
        assert_eq!(inbox.len(), SMALL + 3);
        inbox.end();
        inbox.push(Bytes::from_static(b"after the end"));
        assert_eq!(inbox.pop().await.unwrap(), &b"ab"[..]);
        assert_eq!(inbox.pop().await.unwrap(), big);
        assert_eq!(inbox.pop().await.unwrap(), &b"c"[..]);
        assert_eq!((inbox.len(), inbox.pop().await), (0, None));
    }

    #[tokio::test]
    async fn refusing_drops_all_and_wakes_the_reader() {
        let inbox = std::sync::Arc::new(Inbox::default());
        let reader = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.pop().await }
        });
        tokio::task::yield_now().await;
        inbox.refuse();
        assert_eq!(reader.await.unwrap(), None);
        inbox.push(Bytes::from_static(b"x"));
        assert_eq!(inbox.len(), 0);
    }
}
