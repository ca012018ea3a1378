//! The maps as files beside the nscd socket, for the NSS module: for listing everybody, and for programs
//! that start while this daemon is away.
//!
//! A file is never changed but for its life sign, and never cut: who has mapped it reads on.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use directory_map::{header, protocol::Database};

use crate::generation::{Generation, life_sign};

/// The files, and which generation is in them.
#[derive(Debug)]
pub struct MapFiles {
    folder: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    number: u64,
    files: Vec<File>,
}

impl MapFiles {
    /// Files in the folder of the nscd socket.
    pub fn new(socket: &Path) -> Self {
        Self {
            folder: socket.parent().unwrap_or(Path::new("/")).to_owned(),
            written: Mutex::default(),
        }
    }

    /// Writes the files anew if they hold another generation, and their life signs. An incomplete
    /// generation has no files: what it lacks might exist.
    ///
    /// # Errors
    /// Those of the file system; old files then stay, without a life sign.
    pub fn keep(&self, present: &Generation) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if !present.complete {
            return Ok(());
        }
        if written.number != present.number {
            let files = [Database::Passwd, Database::Group]
                .into_iter()
                .map(|database| self.write(database, present))
                .collect::<io::Result<_>>()?;
            *written = Written {
                number: present.number,
                files,
            };
        }
        for file in &written.files {
            file.write_all_at(&life_sign().to_ne_bytes(), header::TIMESTAMP as u64)?;
        }
        Ok(())
    }

    fn write(&self, database: Database, present: &Generation) -> io::Result<File> {
        let name = match database {
            Database::Passwd => "passwd.map",
            Database::Group => "group.map",
        };
        let fresh = self.folder.join(format!(".{name}.new"));
        let _ = fs::remove_file(&fresh);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&fresh)?;
        // Whatever the umask: everybody's programs read it.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        present.write_to(database, &mut file)?;
        file.write_all_at(&life_sign().to_ne_bytes(), header::TIMESTAMP as u64)?;
        fs::rename(&fresh, self.folder.join(name))?;
        Ok(file)
    }
}
