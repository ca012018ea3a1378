//! One packet in memory. Large ones come from a store of used buffers, since the kernel has to clear
//! each fresh one; how many may exist at a time is the budget of `output`.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most bytes behind the length, both ways: `limits@openssh.com`.
pub const MAX_PACKET: usize = 256 * 1024;
/// Most bytes of a file in one packet.
pub const MAX_DATA: usize = MAX_PACKET - 1024;

/// A packet of the largest size with its length in front.
const LARGE: usize = 4 + MAX_PACKET;
/// Packets below this are not worth a large buffer.
const SMALL: usize = 32 * 1024;
/// Unused large buffers that are kept.
const KEPT: usize = 16;

static STORE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn store() -> MutexGuard<'static, Vec<Vec<u8>>> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a packet; a large buffer goes back to the store when it is dropped.
#[derive(Debug, Default)]
pub struct Packet {
    buffer: Vec<u8>,
    length: usize,
}

impl Packet {
    /// Room for this many bytes, at most `LARGE`; what they are is not said.
    pub fn with_room(length: usize) -> Self {
        debug_assert!(length <= LARGE);
        let buffer = if length < SMALL {
            vec![0; length]
        } else {
            store().pop().unwrap_or_else(|| vec![0; LARGE])
        };
        Self { buffer, length }
    }

    /// Gives up what lies behind `length`.
    pub fn shorten(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Bytes of memory that a packet of this length takes.
    pub fn cost(length: usize) -> usize {
        if length < SMALL { length } else { LARGE }
    }
}

impl From<Vec<u8>> for Packet {
    fn from(buffer: Vec<u8>) -> Self {
        let length = buffer.len();
        Self { buffer, length }
    }
}

impl Deref for Packet {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl DerefMut for Packet {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.length]
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        if self.buffer.len() == LARGE {
            let mut store = store();
            if store.len() < KEPT {
                store.push(std::mem::take(&mut self.buffer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_buffer_is_no_longer_than_what_is_asked_for() {
        for length in [0, 1, SMALL - 1, SMALL, 100_000, LARGE] {
            assert_eq!(Packet::with_room(length).len(), length);
        }
        let mut packet = Packet::with_room(40_000);
        packet.shorten(7);
        assert_eq!(packet.len(), 7);
    }
}
