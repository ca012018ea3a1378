//! Slurm's packing: big-endian integers, strings with their NUL counted, byte blocks.
//! Each message module says which fields follow each other; this only knows the fields.

/// Builds one message, field by field.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A byte block: `u32` length, then the bytes.
    pub fn block(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(length(bytes.len())).raw(bytes)
    }

    /// A string: `u32` length that counts the final NUL, the bytes, the NUL. `None` is the null
    /// string, a bare length of 0; an empty string is a length of 1.
    pub fn string(&mut self, text: Option<&[u8]>) -> &mut Self {
        match text {
            None => self.u32(0),
            Some(text) => self.u32(length(text.len() + 1)).raw(text).u8(0),
        }
    }

    /// The finished bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Lengths are `u32` on the wire. Nothing here packs more than a few megabytes, and a sender
/// that claims less than it sends is refused by every receiver, so saturating is safe.
pub(crate) fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
