//! The caller's buffer, into which everything that a `struct passwd` or `struct group` points to is copied.

use core::ffi::c_char;
use core::ptr::null_mut;

use crate::libc::{Group, Passwd};
use crate::map::{number, word};

/// Why a record was not given out.
pub enum Trouble {
    /// The buffer is too small.
    Small,
    /// The record is damaged.
    Damaged,
}

/// What is left of the buffer.
pub struct Room {
    at: *mut u8,
    left: usize,
}

impl Room {
    /// # Safety
    /// `buffer` is `length` bytes that nobody else uses meanwhile.
    pub unsafe fn new(buffer: *mut c_char, length: usize) -> Self {
        Self {
            at: buffer.cast(),
            left: length,
        }
    }

    fn take(&mut self, size: usize, alignment: usize) -> Result<*mut u8, Trouble> {
        let gap = self.at.align_offset(alignment);
        let all = gap.checked_add(size).ok_or(Trouble::Small)?;
        if all > self.left {
            return Err(Trouble::Small);
        }
        // SAFETY: inside the buffer, as just checked.
        let start = unsafe { self.at.add(gap) };
        // SAFETY: as above, at most its end.
        self.at = unsafe { self.at.add(all) };
        self.left -= all;
        Ok(start)
    }

    /// Copies a text that ends with its NUL.
    fn text(&mut self, text: &[u8]) -> Result<*mut c_char, Trouble> {
        if text.last() != Some(&0) {
            return Err(Trouble::Damaged);
        }
        let start = self.take(text.len(), 1)?;
        // SAFETY: fresh room of that size, apart from the map.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), start, text.len()) };
        Ok(start.cast())
    }

    /// Fills in a user.
    pub fn passwd(&mut self, record: &[u8]) -> Result<Passwd, Trouble> {
        let mut texts = Texts::new(record, 36);
        let mut next = |at| texts.next(record, at).and_then(|text| self.text(text));
        Ok(Passwd {
            name: next(8)?,
            password: next(12)?,
            uid: word(record, 16).ok_or(Trouble::Damaged)?,
            gid: word(record, 20).ok_or(Trouble::Damaged)?,
            gecos: next(24)?,
            home: next(28)?,
            shell: next(32)?,
        })
    }

    /// Fills in a group with its members.
    pub fn group(&mut self, record: &[u8]) -> Result<Group, Trouble> {
        let count = number(record, 20).ok_or(Trouble::Damaged)?;
        // Each has a length in the record, so this cannot be more than the record is long.
        if count > record.len() / 4 {
            return Err(Trouble::Damaged);
        }
        let members: *mut *mut c_char = self
            .take(
                (count + 1) * size_of::<*mut c_char>(),
                align_of::<*mut c_char>(),
            )?
            .cast();
        let mut texts = Texts::new(record, 24 + count * 4);
        let (name, password) = (texts.next(record, 8)?, texts.next(record, 12)?);
        let (name, password) = (self.text(name)?, self.text(password)?);
        for index in 0..count {
            let member = self.text(texts.next(record, 24 + index * 4)?)?;
            // SAFETY: `index` is below the length of the array taken above.
            unsafe { members.add(index).write(member) };
        }
        // SAFETY: the array has one place more than there are members.
        unsafe { members.add(count).write(null_mut()) };
        Ok(Group {
            name,
            password,
            gid: word(record, 16).ok_or(Trouble::Damaged)?,
            members,
        })
    }
}

/// The texts of a record, one behind the other, their lengths in its head.
struct Texts<'a>(Option<&'a [u8]>);

impl<'a> Texts<'a> {
    fn new(record: &'a [u8], start: usize) -> Self {
        Self(record.get(start..))
    }

    /// The next text with its NUL; its length stands at `at`.
    fn next(&mut self, record: &[u8], at: usize) -> Result<&'a [u8], Trouble> {
        let length = number(record, at).ok_or(Trouble::Damaged)?;
        let (text, rest) = self
            .0
            .and_then(|rest| rest.split_at_checked(length))
            .ok_or(Trouble::Damaged)?;
        self.0 = Some(rest);
        Ok(text)
    }
}
