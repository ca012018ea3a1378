//! The fields of a packet: big-endian numbers and strings with a length in front
//! (draft-ietf-secsh-filexfer-02, section 3; RFC 4251, section 5). What a field means is not known here.

/// A field reaches beyond the end of its packet, or a path holds a zero byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad message")]
pub struct BadFields;

/// What has not been read of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// All of these bytes.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that are left.
    pub fn rest(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BadFields> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BadFields)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadFields> {
        self.take(N)?.try_into().map_err(|_| BadFields)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`BadFields`] at the end of the packet; so with all below.
    pub fn u8(&mut self) -> Result<u8, BadFields> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    pub fn u32(&mut self) -> Result<u32, BadFields> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    pub fn u64(&mut self) -> Result<u64, BadFields> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A length in four bytes, and that many.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    pub fn string(&mut self) -> Result<&'a [u8], BadFields> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| BadFields)?)
    }

    /// A string for the kernel: a zero byte may end it and be nowhere else, as in OpenSSH.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    pub fn path(&mut self) -> Result<Vec<u8>, BadFields> {
        let string = self.string()?;
        let string = string.strip_suffix(&[0]).unwrap_or(string);
        if string.contains(&0) {
            Err(BadFields)
        } else {
            Ok(string.to_vec())
        }
    }

    /// A handle. Those that are not four bytes long are none of ours.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    pub fn handle(&mut self) -> Result<Option<u32>, BadFields> {
        Ok(self.string()?.try_into().ok().map(u32::from_be_bytes))
    }
}

/// Appends fields to a packet.
pub trait Put {
    /// Appends bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    /// Appends a string with its length in front; none of ours comes near 4 GiB.
    fn put_string(&mut self, bytes: &[u8]) {
        self.put(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_never_reaches_beyond_its_packet() {
        let mut packet = vec![7];
        packet.put(&5u32.to_be_bytes());
        packet.put(&6u64.to_be_bytes());
        packet.put_string(b"name");
        let read = |bytes: &[u8]| {
            let mut fields = Fields::of(bytes);
            Ok::<_, BadFields>((fields.u8()?, fields.u32()?, fields.u64()?, fields.path()?))
        };
        assert_eq!(read(&packet), Ok((7, 5, 6, b"name".to_vec())));
        for cut in 0..packet.len() {
            assert_eq!(read(&packet[..cut]), Err(BadFields), "{cut}");
        }
    }

    #[test]
    fn paths_and_zero_bytes() {
        let path = |bytes: &[u8]| {
            let mut packet = Vec::new();
            packet.put_string(bytes);
            Fields::of(&packet).path()
        };
        assert_eq!(path(b"a\0"), Ok(b"a".to_vec()));
        assert_eq!(path(b"a\0b"), Err(BadFields));
        assert_eq!(path(b"a\0\0"), Err(BadFields));
        assert_eq!(path(b"b\xe4r"), Ok(b"b\xe4r".to_vec()));
    }
}
