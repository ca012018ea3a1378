//! The reading half of Slurm's packing. A reader never allocates what the sender merely claims:
//! blocks and strings are slices of what has really arrived.

use crate::WireError;

/// Reads one message, field by field.
#[derive(Debug, Clone)]
pub struct Unpacker<'a> {
    rest: &'a [u8],
}

impl<'a> Unpacker<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if fewer are left.
    pub fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or(WireError::Truncated(field))?;
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A byte block of at most `limit` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::TooLong`].
    pub fn block(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let length = self.u32(field)?;
        let n = usize::try_from(length).unwrap_or(usize::MAX);
        if n > limit {
            return Err(WireError::TooLong {
                field,
                length: u64::from(length),
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            });
        }
        self.take(n, field)
    }

    /// A string of at most `limit` bytes without its NUL; `None` is the null string. The bytes
    /// hold no NUL but need not be UTF-8: slurm.conf may be in any encoding.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::TooLong`], [`WireError::NotAString`].
    pub fn string(
        &mut self,
        limit: usize,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, WireError> {
        match self.block(limit.saturating_add(1), field)?.split_last() {
            None => Ok(None),
            Some((0, text)) if !text.contains(&0) => Ok(Some(text)),
            Some(_) => Err(WireError::NotAString(field)),
        }
    }

    /// A string that must be UTF-8: names and tokens.
    ///
    /// # Errors
    /// As [`Unpacker::string`].
    pub fn text(
        &mut self,
        limit: usize,
        field: &'static str,
    ) -> Result<Option<&'a str>, WireError> {
        self.string(limit, field)?
            .map(|bytes| std::str::from_utf8(bytes).map_err(|_| WireError::NotAString(field)))
            .transpose()
    }

    /// Says that the message ends here.
    ///
    /// # Errors
    /// [`WireError::Trailing`] if bytes are left.
    pub fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing(self.rest.len()))
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(WireError::Truncated(field))?;
        self.rest = rest;
        Ok(*head)
    }
}
