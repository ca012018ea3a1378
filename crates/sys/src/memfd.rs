//! Memory files that are handed to other processes: `memfd_create(2)`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A memory file of fixed size. Its owner may still change single fields; whoever receives
/// [`Shared::reader`] can only read.
#[derive(Debug)]
pub struct Shared {
    file: File,
    map: *mut u8,
    len: usize,
    /// How many bytes at the start may change.
    fields: usize,
}

/// A memory file that is still being written.
#[derive(Debug)]
pub struct Draft(File);

impl Draft {
    /// An empty one.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`.
    pub fn new(name: &str) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        Ok(Self(memfd_create(name, flags)?.into()))
    }

    /// Writes some of the content.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// Ends the writing: from here on nothing changes but the first `fields` bytes, by [`Shared::store_i32`] and
    /// [`Shared::store_u64`].
    ///
    /// # Errors
    /// Those of `fcntl(2)` and `mmap(2)`, which refuses an empty file.
    pub fn seal(self, fields: usize) -> io::Result<Shared> {
        let len = usize::try_from(self.0.metadata()?.len()).map_err(io::Error::other)?;
        Shared::of(self.0, len, fields.min(len))
    }
}

// SAFETY: the mapping is never moved or unmapped before drop, and every access through `map` is an
// atomic store.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Makes a memory file with this content and seals its size and, but for this mapping, its bytes.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`, `write(2)`, `mmap(2)`.
    pub fn new(name: &str, content: &[u8]) -> io::Result<Self> {
        let draft = Draft::new(name)?;
        draft.write_all_at(content, 0)?;
        draft.seal(content.len())
    }

    fn of(file: File, len: usize, fields: usize) -> io::Result<Self> {
        fcntl(
            &file,
            FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW),
        )?;
        // SAFETY: a fresh shared mapping of a descriptor we own, at an address of the kernel's
        // choice; the size is sealed, so no access inside `len` can fault.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let shared = Self {
            file,
            map: map.cast(),
            len,
            fields,
        };
        // A reader could open its descriptor once more for writing through /proc: a memory file's
        // mode lets everybody. From here on only the mapping above can change a byte.
        fcntl(
            &shared.file,
            FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL),
        )?;
        Ok(shared)
    }

    /// A descriptor of the same memory that can be read and mapped, not written.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        Ok(File::open(path)?.into())
    }

    /// What never changes: everything behind the fields.
    pub fn rest(&self) -> &[u8] {
        // SAFETY: inside the mapping, which lives as long as self; `fields` is not above `len`. Nobody
        // writes there: the seals leave this mapping as the only way to do so, and stores end before
        // `fields`.
        unsafe { std::slice::from_raw_parts(self.map.add(self.fields), self.len - self.fields) }
    }

    /// Stores a 32-bit field; readers see the old or the new value. `None` if `offset` is outside of the
    /// fields or not a multiple of 4.
    pub fn store_i32(&self, offset: usize, value: i32) -> Option<()> {
        let field = self.field::<AtomicI32>(offset)?;
        field.store(value, Ordering::SeqCst);
        Some(())
    }

    /// Stores a 64-bit field; as [`Shared::store_i32`], `offset` a multiple of 8.
    pub fn store_u64(&self, offset: usize, value: u64) -> Option<()> {
        let field = self.field::<AtomicU64>(offset)?;
        field.store(value, Ordering::SeqCst);
        Some(())
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the file has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn field<T>(&self, offset: usize) -> Option<&T> {
        let size = size_of::<T>();
        if offset.checked_add(size)? > self.fields || !offset.is_multiple_of(size) {
            return None;
        }
        // SAFETY: inside the mapping by the check above, aligned since the mapping is page-aligned
        // and the offset a multiple of the size; T is one of the two atomics of this file, valid
        // for every bit pattern, and lives as long as the mapping, which lives as long as self.
        Some(unsafe { &*self.map.add(offset).cast::<T>() })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, not used after this.
        unsafe { libc::munmap(self.map.cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_changes_fields_and_readers_cannot_write() {
        let shared = Shared::new("test", &[0; 64]).unwrap();
        let reader = File::from(shared.reader().unwrap());
        shared.store_i32(4, 7).unwrap();
        shared.store_u64(8, 9).unwrap();
        let mut bytes = [0; 16];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [0, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert!(reader.write_at(b"x", 0).is_err());
        assert!(reader.set_len(1).is_err());
        let again = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let again = File::options().write(true).open(again).unwrap();
        assert!(again.write_at(b"x", 0).is_err());
        for (outside, unaligned) in [(64, 2), (62, 6)] {
            assert!(shared.store_i32(outside, 1).is_none());
            assert!(shared.store_u64(unaligned, 1).is_none());
        }
        assert!(shared.rest().is_empty());
    }

    #[test]
    fn a_draft_is_written_in_pieces_and_only_its_fields_change_later() {
        let draft = Draft::new("test").unwrap();
        draft.write_all_at(b"rest", 16).unwrap();
        draft.write_all_at(b"head", 0).unwrap();
        let shared = draft.seal(16).unwrap();
        assert_eq!((shared.len(), shared.rest()), (20, &b"rest"[..]));
        shared.store_u64(8, 7).unwrap();
        assert!(shared.store_u64(16, 7).is_none());
        assert!(shared.store_i32(16, 7).is_none());
        let mut bytes = [0; 20];
        let reader = File::from(shared.reader().unwrap());
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, *b"head\0\0\0\0\x07\0\0\0\0\0\0\0rest");
        assert!(Draft::new("empty").unwrap().seal(8).is_err());
    }
}
