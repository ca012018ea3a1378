//! Whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::LinkError;

/// The TLS side of a connection: the CAs of the file, or of the system.
///
/// # Errors
/// [`LinkError::Trust`] if there is not one usable certificate.
pub fn trust(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, LinkError> {
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
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_needs_a_certificate() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            trust(Some(file.path())),
            Err(LinkError::Trust { .. })
        ));
        assert!(matches!(
            trust(Some(Path::new("/nonexistent"))),
            Err(LinkError::Trust { .. })
        ));
    }
}
