//! What is open: handles by number. A number is never used twice, so a late request cannot reach
//! another file.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::folder::Folder;
use crate::paths::Paths;

/// One open file or folder.
#[derive(Debug)]
pub struct Handle {
    /// Its number.
    pub id: u32,
    /// The path that the client opened, as it was written.
    pub name: Vec<u8>,
    /// The same, absolute.
    pub path: Vec<u8>,
    /// If it is a folder's, even when that is closed.
    pub is_folder: bool,
    /// If what is written goes to the end of the file, wherever the client says.
    pub appends: bool,
    /// Bytes that were read and written, for the record.
    pub read: AtomicU64,
    #[allow(missing_docs)]
    pub written: AtomicU64,
    open: Mutex<Open>,
}

/// What lies behind a handle.
#[derive(Debug)]
#[allow(missing_docs, reason = "as named")]
pub enum Open {
    File {
        file: File,
        ahead: crate::file::Ahead,
    },
    Folder(Folder),
    Closed,
}

impl Handle {
    /// What lies behind it. Requests of one handle come one after the other, so nobody waits here
    /// but for the copy of a file.
    pub fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All handles.
#[derive(Debug, Default)]
pub struct Handles(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u32,
    open: HashMap<u32, Arc<Handle>>,
}

impl Handles {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for what was opened.
    pub fn insert(&self, paths: &Paths, name: &[u8], appends: bool, open: Open) -> u32 {
        let mut table = self.table();
        let id = table.next;
        table.next = table.next.wrapping_add(1);
        let handle = Handle {
            id,
            name: name.to_vec(),
            path: paths.absolute(name),
            is_folder: matches!(open, Open::Folder(_)),
            appends,
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            open: Mutex::new(open),
        };
        table.open.insert(id, Arc::new(handle));
        id
    }

    /// The handle of a number.
    pub fn get(&self, id: Option<u32>) -> Option<Arc<Handle>> {
        self.table().open.get(&id?).cloned()
    }

    /// The handle of a number, which is nobody's from here on.
    pub fn remove(&self, id: Option<u32>) -> Option<Arc<Handle>> {
        self.table().open.remove(&id?)
    }

    /// All that are open, for the record at the end.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        self.table().open.values().cloned().collect()
    }
}

impl Handle {
    /// Adds to the bytes that were read.
    pub fn count_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds to the bytes that were written.
    pub fn count_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
