//! Certificates of host keys: each must be a host's, match one of the keys, carry a good signature,
//! and be in its time. Who trusts the CA is the clients' matter.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::{Certificate, PrivateKey};
use service::regular_file;

use crate::host_key::{self, HostKeyError};

/// Largest certificate file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Whether it is in its time.
#[derive(Debug, PartialEq)]
pub enum Time {
    /// It is.
    Valid,
    /// It is not.
    Other(&'static str),
}

/// Loads one.
///
/// # Errors
/// [`HostKeyError::Certificate`] for anything but its time.
pub fn load(path: &Path, keys: &[PrivateKey]) -> Result<(Certificate, Time), HostKeyError> {
    let wrong = |what: String| HostKeyError::Certificate {
        path: path.into(),
        what,
    };
    let text = regular_file::open(path)
        .and_then(|(file, _)| regular_file::whole(file, MAX_FILE))
        .and_then(|text| String::from_utf8(text).map_err(io::Error::other))
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let certificate = Certificate::from_openssh(text.trim())
        .map_err(|error| wrong(format!("is not an OpenSSH certificate: {error}")))?;
    if !certificate.cert_type().is_host() {
        return Err(wrong("is a user's, not a host's".into()));
    }
    if certificate.verify_signature().is_err() {
        return Err(wrong("has a wrong signature".into()));
    }
    let matches = |key: &PrivateKey| key.public_key().key_data() == certificate.public_key();
    if !keys.iter().any(matches) {
        return Err(wrong("belongs to none of the host keys".into()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let time = match now {
        now if now < certificate.valid_after() => Time::Other("is not valid yet"),
        now if now >= certificate.valid_before() => Time::Other("has expired"),
        _ => Time::Valid,
    };
    Ok((certificate, time))
}

/// Tries one certificate with these keys and prints when it ends, in seconds since 1970.
pub fn check(path: &Path, keys: &[OsString]) -> Result<(), HostKeyError> {
    let paths: Vec<PathBuf> = keys.iter().map(PathBuf::from).collect();
    let (certificate, time) = load(path, &host_key::load(&paths)?)?;
    match time {
        Time::Valid => println!("{}", certificate.valid_before()),
        Time::Other(why) => println!("{why}"),
    }
    Ok(())
}
