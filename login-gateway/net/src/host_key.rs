//! The host's private keys: loaded before the sandbox, made on the spot where nobody brought any.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gateway_wire::Settings;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PrivateKey};
use service::config::{ConfigError, read_secret};

use crate::host_certificate::{self, Time};

/// Largest private key file, in bytes; an RSA key of 16,384 bits needs about 12 KiB.
const MAX_KEY_FILE: u64 = 32 * 1024;

/// Why a host key cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read, or others can read it.
    #[error("host key")]
    File(#[from] ConfigError),
    /// It is not a private key in OpenSSH's format without a passphrase.
    #[error("host key '{path}' is not an OpenSSH private key without passphrase", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// RSA keys this short are refused by clients.
    #[error("host key '{path}' is RSA with {bits} bits, fewer than 3072", path = path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Length of the modulus.
        bits: u32,
    },
    /// It is not a certificate in OpenSSH's format, its signature is wrong, or it is not a host's.
    #[error("host certificate '{path}' {what}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such kind of key.
    #[error("'{0}' is not a kind of host key: ed25519, ecdsa or rsa")]
    Kind(String),
    /// No key is configured.
    #[error("no host key is configured")]
    None,
    /// A new key cannot be written.
    #[error("write host key '{path}'", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// By what clients know this host.
#[derive(Default)]
pub struct Identity {
    /// Private keys.
    pub keys: Vec<PrivateKey>,
    /// Certificates of some of them.
    pub certificates: Vec<Certificate>,
}

impl Identity {
    /// Loads every key and certificate; one bad file fails all, since clients would otherwise see
    /// another host. A certificate whose time has not come or is over is left out and logged: the
    /// bare key serves those who know it.
    pub fn load(settings: &Settings) -> Result<Self, HostKeyError> {
        let keys = load(&settings.host_keys)?;
        let mut certificates = Vec::new();
        for path in &settings.host_certificates {
            let (certificate, time) = host_certificate::load(path, &keys)?;
            match time {
                Time::Valid => certificates.push(certificate),
                Time::Other(why) => {
                    eprintln!("error: host certificate '{}' {why}", path.display());
                }
            }
        }
        Ok(Self { keys, certificates })
    }
}

/// Loads every key.
pub fn load(paths: &[PathBuf]) -> Result<Vec<PrivateKey>, HostKeyError> {
    if paths.is_empty() {
        return Err(HostKeyError::None);
    }
    paths.iter().map(|path| load_one(path)).collect()
}

fn load_one(path: &Path) -> Result<PrivateKey, HostKeyError> {
    let secret = read_secret(path, MAX_KEY_FILE)?;
    let malformed = |source: Box<dyn std::error::Error + Send + Sync>| HostKeyError::Malformed {
        path: path.into(),
        source,
    };
    let text = std::str::from_utf8(secret.expose()).map_err(|e| malformed(e.into()))?;
    let key = russh::keys::decode_secret_key(text, None).map_err(|e| malformed(e.into()))?;
    if let Some(rsa) = key.public_key().key_data().rsa() {
        let bits = rsa
            .n()
            .as_positive_bytes()
            .map_or(0, |n| n.len() as u32 * 8);
        if bits < 3072 {
            return Err(HostKeyError::Short {
                path: path.into(),
                bits,
            });
        }
    }
    Ok(key)
}

/// Tries one key file and prints its fingerprint.
pub fn check(path: &Path) -> Result<(), HostKeyError> {
    let key = load_one(path)?;
    println!(
        "{} {}",
        key.algorithm(),
        key.public_key().fingerprint(HashAlg::Sha256)
    );
    Ok(())
}

/// Makes a key at `path` (mode 0600) and its public half at `path.pub`, and prints the
/// fingerprint. An existing file is left as it is.
pub fn generate(path: &Path, kind: &OsStr) -> Result<(), HostKeyError> {
    let algorithm = match kind.to_str() {
        Some("ed25519") => Algorithm::Ed25519,
        Some("ecdsa") => Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        },
        // 4096 bits.
        Some("rsa") => Algorithm::Rsa { hash: None },
        _ => return Err(HostKeyError::Kind(kind.display().to_string())),
    };
    let write = |path: &Path, source| HostKeyError::Write {
        path: path.into(),
        source,
    };
    let other = |path: &Path, e: russh::keys::ssh_key::Error| HostKeyError::Write {
        path: path.into(),
        source: std::io::Error::other(e.to_string()),
    };
    let mut random = rand_core::UnwrapErr(getrandom::SysRng);
    let key = PrivateKey::random(&mut random, algorithm).map_err(|e| other(path, e))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|e| other(path, e))?;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .map_err(|e| write(path, e))?;
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    let line = key
        .public_key()
        .to_openssh()
        .map_err(|e| other(&public, e))?;
    std::fs::write(&public, line + "\n")
        .and_then(|()| std::fs::set_permissions(&public, PermissionsExt::from_mode(0o644)))
        .map_err(|e| write(&public, e))?;
    println!("{}", key.public_key().fingerprint(HashAlg::Sha256));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_loads_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        generate(&path, OsStr::new("ed25519")).unwrap();
        assert!(load(std::slice::from_ref(&path)).is_ok());
        let other = folder.path().join("ecdsa");
        generate(&other, OsStr::new("ecdsa")).unwrap();
        assert!(load(&[other]).is_ok());
        assert!(generate(&folder.path().join("dsa"), OsStr::new("dsa")).is_err());
        assert!(generate(&path, OsStr::new("ed25519")).is_err());
    }

    #[test]
    fn bad_keys_are_refused_with_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let check = |text: &[u8], mode: u32, expected: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let said = service::exit::chain(&load(std::slice::from_ref(&path)).unwrap_err());
            assert!(said.contains(expected) && said.contains("key'"), "{said}");
        };
        check(b"not a key", 0o600, "is not an OpenSSH private key");
        check(b"\xff\xfe", 0o600, "is not an OpenSSH private key");
        check(b"", 0o600, "is empty");
        check(
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
            0o600,
            "is not an OpenSSH",
        );
        check(b"anything", 0o644, "may be read by others");
        assert!(matches!(load(&[]), Err(HostKeyError::None)));
    }
}
