//! The cluster key on disk: loaded at start, again on SIGHUP and when the file changes.
//! A bad new file never replaces good keys in memory.

use std::path::{Path, PathBuf};

use slurm_auth::Keyring;

use crate::error::ShimError;
use crate::stamp::Stamp;

/// Largest key file that is read, in bytes.
const LIMIT: u64 = 1 << 20;
/// Keys shorter than this many bytes can be guessed from one captured token.
const SHORT: usize = 32;

/// Which file, in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// One raw key.
    SlurmKey(PathBuf),
    /// A set of keys with ids.
    Jwks(PathBuf),
}

impl KeySource {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::SlurmKey(path) | Self::Jwks(path) => path,
        }
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ShimError::File`] for permissions and size, [`ShimError::Key`] for the content.
    pub fn load(&self) -> Result<Keyring, ShimError> {
        let bytes = service::config::read_secret(self.path(), LIMIT)?;
        let keys = match self {
            Self::SlurmKey(_) => Keyring::from_slurm_key(bytes.expose()),
            Self::Jwks(_) => Keyring::from_jwks(bytes.expose()),
        };
        keys.map_err(|source| ShimError::Key {
            path: self.path().into(),
            source,
        })
    }
}

/// What about good keys a person should know.
pub fn warnings(keys: &Keyring, now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    if keys.signing_key_length() < SHORT {
        let length = keys.signing_key_length();
        warnings.push(format!(
            "the key has {length} bytes: {SHORT} or more are safe"
        ));
    }
    match keys.signing_key_expires() {
        Some(at) if at < now => {
            warnings.push("the signing key has expired: its tokens will be refused".to_owned());
        }
        Some(at) if at < now + 7 * 86_400 => {
            warnings.push(format!(
                "the signing key expires in {} hours",
                (at - now) / 3600
            ));
        }
        _ => {}
    }
    warnings
}

/// The keys in use and the file they came from.
#[derive(Debug)]
pub struct Keys {
    source: KeySource,
    seen: Option<Stamp>,
    ring: Keyring,
}

impl Keys {
    /// Loads the keys for the first time.
    ///
    /// # Errors
    /// As [`KeySource::load`].
    pub fn load(source: KeySource) -> Result<Self, ShimError> {
        let seen = Stamp::of(source.path());
        let ring = source.load()?;
        let keys = Self { source, seen, ring };
        keys.report("keys.loaded");
        Ok(keys)
    }

    /// The keys in use.
    pub fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// Loads the file again if it is another one than last time, or if `forced`. Whatever is
    /// wrong with it is logged once and the keys in use stay.
    pub fn refresh(&mut self, forced: bool) {
        let now = Stamp::of(self.source.path());
        if !forced && now == self.seen {
            return;
        }
        self.seen = now;
        match self.source.load() {
            // Written while it was read: the next look takes the finished file.
            Ok(_) if Stamp::of(self.source.path()) != now => self.seen = None,
            Ok(ring) => {
                self.ring = ring;
                self.report("keys.reloaded");
            }
            Err(error) => tracing::error!(
                event = "keys.kept",
                path = %self.source.path().display(),
                error = service::exit::chain(&error),
                "the new key file is bad, the keys in use stay"
            ),
        }
    }

    fn report(&self, event: &str) {
        let path = self.source.path().display();
        tracing::info!(
            event,
            path = %path,
            kid = self.ring.signing_kid(),
            keys = self.ring.len()
        );
        for warning in warnings(&self.ring, crate::signer::unix_now()) {
            tracing::warn!(event = "keys.weak", path = %path, "{warning}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, bytes: &[u8], mode: u32) {
        // A new file each time, as a rotation makes it.
        let fresh = path.with_extension("new");
        fs::write(&fresh, bytes).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(&fresh, path).unwrap();
    }

    #[test]
    fn good_keys_survive_bad_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slurm.key");
        write(&path, &[7; 40], 0o600);
        let mut keys = Keys::load(KeySource::SlurmKey(path.clone())).unwrap();
        assert_eq!(keys.ring().signing_key_length(), 40);
        write(&path, &[7; 50], 0o604);
        keys.refresh(false);
        assert_eq!(keys.ring().signing_key_length(), 40, "readable by others");
        write(&path, b"", 0o600);
        keys.refresh(true);
        assert_eq!(keys.ring().signing_key_length(), 40, "empty");
        fs::remove_file(&path).unwrap();
        keys.refresh(false);
        keys.refresh(true);
        assert_eq!(keys.ring().signing_key_length(), 40, "removed");
        write(&path, &[7; 60], 0o640);
        keys.refresh(false);
        assert_eq!(keys.ring().signing_key_length(), 60);
    }

    #[test]
    fn bad_files_are_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slurm.key");
        let check = |bytes: &[u8], mode: u32, words: &str| {
            write(&path, bytes, mode);
            let error = Keys::load(KeySource::SlurmKey(path.clone())).expect_err(words);
            assert!(
                service::exit::chain(&error).contains(words),
                "{words}: {error}"
            );
        };
        check(b"key", 0o644, "may be read by others");
        check(b"", 0o600, "is empty");
        let jwks = KeySource::Jwks(path.clone());
        write(&path, b"{\"keys\":[]}", 0o600);
        assert!(service::exit::chain(&jwks.load().unwrap_err()).contains("has no keys"));
    }
}
