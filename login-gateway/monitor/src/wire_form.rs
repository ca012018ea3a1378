//! SSH's wire form of numbers and strings (RFC 4251 section 5), as far as the monitor reads any:
//! from public keys and revocation lists. Nothing is copied, nothing read beyond the end.

/// Reads from the front of some bytes; `None` where they end too early.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much is left, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A `byte`.
    pub fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// A `uint32`.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// A `uint64`.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// The bytes of a `string`, or of an `mpint`.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let mut after = *self;
        let length = usize::try_from(after.u32()?).ok()?;
        let (string, rest) = after.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_no_more() {
        let bytes = b"\x07\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x09x";
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.byte(), Some(7));
        assert_eq!(reader.string(), Some(&b"ab"[..]));
        assert_eq!(reader.u64(), Some(256));
        assert_eq!(reader.string(), None);
        assert_eq!(
            (reader.len(), reader.u32(), reader.byte()),
            (5, Some(9), Some(b'x'))
        );
        assert!(reader.is_empty() && reader.byte().is_none());
    }
}
