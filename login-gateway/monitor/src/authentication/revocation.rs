//! Keys and certificates that are refused whatever else holds. While a list cannot be read nobody
//! logs in with a key: better nobody than the thief whose key it was meant for.

use std::path::PathBuf;

use login_gateway_monitor::key_list;
use login_gateway_monitor::krl::{self, Subject};

use crate::trusted_file;

/// Whether no list holds the key, the certificate or its authority.
///
/// # Errors
/// Why it cannot be used, for the log.
pub fn check(lists: &[PathBuf], subject: &Subject<'_>) -> Result<(), String> {
    for path in lists {
        let revoked = trusted_file::read(path)
            .map_err(|error| error.to_string())
            .and_then(|list| revokes(&list, subject));
        match revoked {
            Ok(false) => {}
            Ok(true) => return Err(format!("revoked by '{}'", path.display())),
            Err(error) => {
                tracing::error!(
                    event = "revoked_keys.unusable",
                    file = %path.display(),
                    error,
                    "nobody can log in with a key"
                );
                return Err("revoked-keys cannot be read".into());
            }
        }
    }
    Ok(())
}

fn revokes(list: &[u8], subject: &Subject<'_>) -> Result<bool, String> {
    if krl::is_krl(list) {
        return krl::revokes(list, subject).map_err(|e| e.to_string());
    }
    let keys = key_list::parse(list).map_err(|e| e.to_string())?;
    let authority = subject.certificate.map(|issued| issued.authority);
    Ok(keys
        .iter()
        .any(|key| key == subject.key || authority == Some(key)))
}
