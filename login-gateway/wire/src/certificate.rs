//! Certificates between the monitor and the sandboxed process that reads one for it. Whether what a
//! certificate says is good enough is the monitor's matter.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What to read, in descriptor 0 of `login-gateway-net read-certificate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateQuestion {
    /// The account of the sandbox, as in the settings.
    pub user: Option<String>,
    /// The root folder of the sandbox.
    pub empty_root: PathBuf,
    /// The certificate in SSH wire form, PROTOCOL.certkeys.
    pub certificate: Vec<u8>,
}

/// A certificate whose signature is that of its authority; the answer on descriptor 1, absent if it
/// is malformed or the signature is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its type's name, `ssh-ed25519-cert-v01@openssh.com` and the like.
    pub name: String,
    /// The certified key in SSH wire form.
    pub key: Vec<u8>,
    /// Number given by the authority, 0 if it gives none.
    pub serial: u64,
    /// Whether it is for a user; else it is for a host.
    pub for_user: bool,
    /// Name of the certificate, for the record.
    pub key_id: String,
    /// Names that it is good for.
    pub principals: Vec<String>,
    /// First second of its time, since 1970.
    pub valid_after: u64,
    /// First second after its time, since 1970.
    pub valid_before: u64,
    /// Options that must be understood, by name.
    pub critical_options: Vec<(String, String)>,
    /// Options that may be left unread, by name.
    pub extensions: Vec<(String, String)>,
    /// The authority's key in SSH wire form.
    pub authority: Vec<u8>,
    /// Name of the algorithm of the authority's signature.
    pub signature: String,
}
