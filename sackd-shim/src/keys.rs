//! The cluster key on disk: loaded at start, again on SIGHUP and when the file changes.
//! A bad new file never replaces good keys in memory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slurm_auth::{Claims, KeyError, Keyring, TokenError, Verifier};

use crate::error::ShimError;
use crate::signer::unix_now;
use crate::stamp::Stamp;

/// Largest key file that is read, in bytes.
const LIMIT: u64 = 1 << 20;
/// Keys shorter than this many bytes are weaker than the hash.
const SHORT: usize = 32;
/// Keys shorter than this many bytes can be guessed from one captured token.
const TOO_SHORT: usize = 16;
/// Keys with fewer different bytes than this were not made at random.
const TOO_PLAIN: usize = 8;
/// A key that expires within this many seconds is warned of.
const SOON: i64 = 7 * 86_400;
/// How often a warning is repeated.
const AGAIN: Duration = Duration::from_secs(3600);

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
        keys.and_then(strong).map_err(|source| ShimError::Key {
            path: self.path().into(),
            source,
        })
    }
}

fn strong(keys: Keyring) -> Result<Keyring, KeyError> {
    if keys.shortest() < TOO_SHORT {
        return Err(KeyError::Weak("has fewer than 16 bytes"));
    }
    if keys.fewest_values() < TOO_PLAIN {
        return Err(KeyError::Weak("has fewer than 8 different bytes"));
    }
    Ok(keys)
}

/// What about good keys, and their file, a person should know.
pub fn warnings(keys: &Keyring, source: &KeySource, slurm_user: u32, now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    if keys.shortest() < SHORT {
        let length = keys.shortest();
        warnings.push(format!(
            "a key has {length} bytes: {SHORT} or more are safe"
        ));
    }
    let owner = std::fs::metadata(source.path()).map_or(0, |meta| meta.uid());
    if owner != 0 && owner != slurm_user {
        warnings.push(format!(
            "the file belongs to uid {owner}, neither to root nor to SlurmUser"
        ));
    }
    match keys.signing_key_expires(now) {
        Some(at) if at < now => {
            warnings.push("all keys have expired: tokens will be refused".to_owned());
        }
        _ if keys.default_has_expired(now) => {
            let kid = keys.signing_kid(now).unwrap_or("-");
            warnings.push(format!(
                "the default key has expired: key '{kid}' signs in its place"
            ));
        }
        Some(at) if at < now + SOON => {
            let left = at - now;
            let left = if left < 7200 {
                format!("{} minutes", left / 60)
            } else {
                format!("{} hours", left / 3600)
            };
            warnings.push(format!("the signing key expires in {left}"));
        }
        _ => {}
    }
    warnings
}

/// The keys in use and the file they came from.
#[derive(Debug)]
pub struct Keys {
    source: KeySource,
    slurm_user: u32,
    seen: Option<Stamp>,
    /// None until there has been a good file.
    ring: Option<Keyring>,
    /// The slurm.key before this one: tokens it signed are good until they expire.
    previous: Option<(Keyring, i64)>,
    loaded: i64,
    file_is_bad: bool,
    kid: Option<String>,
    warned: Option<Instant>,
}

impl Keys {
    /// Loads the keys for the first time.
    ///
    /// # Errors
    /// As [`KeySource::load`].
    pub fn load(source: KeySource, slurm_user: u32) -> Result<Self, ShimError> {
        let mut keys = Self::none_yet(source, slurm_user);
        keys.ring = Some(keys.source.load()?);
        keys.loaded = unix_now();
        keys.file_is_bad = false;
        keys.report("keys.loaded");
        Ok(keys)
    }

    /// Waits for a good file: until then no token is made.
    pub fn none_yet(source: KeySource, slurm_user: u32) -> Self {
        Self {
            seen: Stamp::of(source.path()),
            source,
            slurm_user,
            ring: None,
            previous: None,
            loaded: 0,
            file_is_bad: true,
            kid: None,
            warned: None,
        }
    }

    /// Makes a token. The caller has looked for a new file before.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        slurm_auth::sign(claims, self.ring.as_ref().ok_or(TokenError::NoKey)?)
    }

    /// Checks a token.
    ///
    /// # Errors
    /// Why the keys in use do not find it good.
    pub fn verify(&self, token: &str, reader: Verifier) -> Result<Claims, TokenError> {
        let ring = self.ring.as_ref().ok_or(TokenError::NoKey)?;
        let result = slurm_auth::verify(token, ring, reader);
        match (&result, &self.previous) {
            (Err(TokenError::Signature), Some((previous, until))) if reader.now <= *until => {
                slurm_auth::verify(token, previous, reader).or(result)
            }
            _ => result,
        }
    }

    /// Id of the key that signs now.
    pub fn kid(&self, now: i64) -> Option<&str> {
        self.ring.as_ref()?.signing_kid(now)
    }

    /// Id of the key that [`Self::sign`] takes for these claims.
    pub fn kid_for(&self, claims: &Claims) -> Option<&str> {
        self.ring.as_ref()?.kid_for(claims)
    }

    /// How many keys there are, when the one that signs expires, when they were loaded, and
    /// whether the file has become bad since.
    pub fn state(&self, now: i64) -> (usize, Option<i64>, i64, bool) {
        let ring = self.ring.as_ref();
        let expires = ring.and_then(|ring| ring.signing_key_expires(now));
        let count = ring.map_or(0, Keyring::len);
        (count, expires, self.loaded, self.file_is_bad)
    }

    /// Loads the file again if it is another one than last time, or if `forced`. Whatever is
    /// wrong with it is logged once and the keys in use stay. `lifetime` is how long tokens live.
    pub fn refresh(&mut self, forced: bool, lifetime: Duration) {
        let now = Stamp::of(self.source.path());
        if !forced && now == self.seen {
            return;
        }
        self.seen = now;
        match self.source.load() {
            // Written while it was read: the next look takes the finished file.
            Ok(_) if Stamp::of(self.source.path()) != now => self.seen = None,
            Ok(ring) => {
                let old = self.ring.replace(ring);
                self.loaded = unix_now();
                self.file_is_bad = false;
                // A set says itself which keys still count; one key cannot.
                if let Some(old) = old.filter(|old| self.differs_from(old))
                    && matches!(self.source, KeySource::SlurmKey(_))
                {
                    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
                    self.previous = Some((old, self.loaded.saturating_add(lifetime)));
                }
                self.report("keys.reloaded");
            }
            Err(error) => {
                self.file_is_bad = true;
                self.tell_of(&error);
            }
        }
    }

    /// A file that is bad.
    fn tell_of(&self, error: &ShimError) {
        let path = self.source.path().display();
        let error = service::exit::chain(error);
        if self.ring.is_some() {
            tracing::error!(
                event = "keys.kept",
                %path,
                error,
                "the new key file is bad, the keys in use stay"
            );
        } else {
            tracing::error!(
                event = "keys.none",
                %path,
                error,
                "this cluster gets no tokens until the file is good"
            );
        }
    }

    fn differs_from(&self, old: &Keyring) -> bool {
        let now = self.ring.iter().flat_map(Keyring::memory);
        !old.memory().eq(now)
    }

    /// Time passes without the file changing: keys expire, warnings are repeated.
    pub fn look_at_the_clock(&mut self) {
        let now = unix_now();
        if self
            .previous
            .as_ref()
            .is_some_and(|(_, until)| *until < now)
        {
            self.previous = None;
        }
        if self.kid(now) != self.kid.as_deref()
            || self.warned.is_none_or(|warned| warned.elapsed() >= AGAIN)
        {
            self.warn(now);
        }
    }

    fn report(&mut self, event: &str) {
        let lock = |key| sys::process::lock_bytes(key).is_ok();
        let locked = self.ring.iter().flat_map(Keyring::memory).all(lock);
        let now = unix_now();
        tracing::info!(
            event,
            path = %self.source.path().display(),
            kid = self.kid(now),
            keys = self.state(now).0,
            locked
        );
        self.warn(now);
    }

    fn warn(&mut self, now: i64) {
        self.kid = self.kid(now).map(str::to_owned);
        self.warned = Some(Instant::now());
        let path = self.source.path().display();
        let Some(ring) = &self.ring else {
            if let Err(error) = self.source.load() {
                self.tell_of(&error);
            }
            return;
        };
        for warning in warnings(ring, &self.source, self.slurm_user, now) {
            tracing::warn!(event = "keys.weak", path = %path, "{warning}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn key(length: u8) -> Vec<u8> {
        (0..length).collect()
    }

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
        write(&path, &key(40), 0o600);
        let mut keys = Keys::load(KeySource::SlurmKey(path.clone()), 0).unwrap();
        assert_eq!(keys.ring.as_ref().unwrap().shortest(), 40);
        write(&path, &key(50), 0o604);
        keys.refresh(false, TTL);
        assert_eq!(
            keys.ring.as_ref().unwrap().shortest(),
            40,
            "readable by others"
        );
        write(&path, b"", 0o600);
        keys.refresh(true, TTL);
        assert_eq!(keys.ring.as_ref().unwrap().shortest(), 40, "empty");
        fs::remove_file(&path).unwrap();
        keys.refresh(false, TTL);
        keys.refresh(true, TTL);
        assert_eq!(keys.ring.as_ref().unwrap().shortest(), 40, "removed");
        write(&path, &key(60), 0o640);
        keys.refresh(false, TTL);
        assert_eq!(keys.ring.as_ref().unwrap().shortest(), 60);
    }

    #[test]
    fn bad_files_are_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slurm.key");
        let check = |bytes: &[u8], mode: u32, words: &str| {
            write(&path, bytes, mode);
            let error = Keys::load(KeySource::SlurmKey(path.clone()), 0).expect_err(words);
            assert!(
                service::exit::chain(&error).contains(words),
                "{words}: {error}"
            );
        };
        check(b"key", 0o644, "may be read by others");
        check(b"", 0o600, "is empty");
        check(&key(15), 0o600, "has fewer than 16 bytes");
        check(&[7; 64], 0o600, "fewer than 8 different bytes");
        let jwks = KeySource::Jwks(path.clone());
        write(&path, b"{\"keys\":[]}", 0o600);
        assert!(service::exit::chain(&jwks.load().unwrap_err()).contains("has no keys"));
    }
}
