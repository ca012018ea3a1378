//! Whose certificates are trusted.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::LinkError;

/// Whom TLS believes, and who we are there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// The CA certificates to believe, PEM; without it those of the system.
    pub ca_file: Option<&'a Path>,
    /// A certificate of our own.
    pub identity: Option<Identity<'a>>,
}

/// A certificate of our own.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The file with it and what leads to its CA, PEM.
    pub certificate: &'a Path,
    /// Its key, PEM.
    pub key: &'a [u8],
}

impl fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.certificate.display())
    }
}

/// The TLS side of a connection.
///
/// # Errors
/// [`LinkError::Trust`] if there is not one usable certificate to believe; [`LinkError::Identity`].
pub fn trust(trust: Trust<'_>) -> Result<Arc<ClientConfig>, LinkError> {
    let ca_file = trust.ca_file;
    let mut roots = RootCertStore::empty();
    let problem = match ca_file {
        Some(path) => {
            let certificates: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            match certificates {
                Ok(certificates) => certificates
                    .into_iter()
                    .find_map(|certificate| roots.add(certificate).err())
                    .map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            }
        }
        None => {
            // One bad certificate of the system must not cost the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            None
        }
    };
    let place = ca_file.map_or_else(
        || "the system".to_owned(),
        |path| path.display().to_string(),
    );
    if problem.is_some() || roots.is_empty() {
        let problem = problem.unwrap_or_else(|| "no certificate in it".to_owned());
        return Err(LinkError::Trust { place, problem });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LinkError::Trust {
            place,
            problem: error.to_string(),
        })?
        .with_root_certificates(roots);
    let config = match trust.identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let problem = |problem: String| LinkError::Identity {
                place: certificate.display().to_string(),
                problem,
            };
            let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect)
                .map_err(|error| problem(error.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| problem(format!("its key: {error}")))?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|error| problem(error.to_string()))?
        }
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_needs_a_certificate() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nonexistent")] {
            let of = Trust {
                ca_file: Some(path),
                identity: None,
            };
            assert!(matches!(trust(of), Err(LinkError::Trust { .. })));
        }
    }
}
