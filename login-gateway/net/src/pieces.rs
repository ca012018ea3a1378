//! Buffers for what programs write: russh gets them as they are and they come back when it has
//! encrypted them, so bulk data is neither copied nor are buffers zeroed again (T18).

use std::cell::RefCell;

use bytes::Bytes;

/// Most bytes taken from a descriptor at once.
const SIZE: usize = 64 * 1024;
/// Buffers that are kept for the next piece: as many as a busy channel has under way.
const KEPT: usize = 4;
/// Pieces below this size, in bytes, are copied: a key must not hold a whole buffer.
const SMALL: usize = SIZE / 4;

thread_local! {
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

type Buffer = Box<[u8]>;

/// A buffer to read into; not empty.
pub fn take() -> Buffer {
    FREE.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; SIZE].into())
}

/// The first `len` bytes of a buffer.
pub fn bytes(buffer: Buffer, len: usize) -> Bytes {
    if len < SMALL {
        let bytes = Bytes::copy_from_slice(&buffer[..len]);
        give_back(buffer);
        bytes
    } else {
        Bytes::from_owner(Piece(buffer)).slice(..len)
    }
}

/// Takes a buffer back that nothing was read into.
pub fn give_back(buffer: Buffer) {
    // At the very end of the process there is no list any more.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
}

/// A buffer that comes back when its last byte has been used.
struct Piece(Buffer);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_small_pieces_hold_none() {
        let kept = || FREE.with_borrow(Vec::len);
        let large = bytes(take(), SIZE);
        let half = large.slice(SIZE / 2..);
        drop(large);
        assert_eq!(kept(), 0);
        drop(half);
        assert_eq!(kept(), 1);
        let mut buffer = take();
        buffer[0] = b'k';
        assert_eq!(kept(), 0);
        let key = bytes(buffer, 1);
        assert_eq!((kept(), &key[..]), (1, &b"k"[..]));
        let many: Vec<_> = (0..2 * KEPT).map(|_| take()).collect();
        many.into_iter().for_each(give_back);
        assert_eq!(kept(), KEPT);
    }
}
