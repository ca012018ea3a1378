//! Reads one certificate for the monitor, in net's own sandbox and in a process of its own: its bytes
//! are a stranger's, and the net that has sent them is not trusted with the authority's signature.

use std::io::Write;

use gateway_wire::certificate::{Certificate, CertificateQuestion};
use gateway_wire::{MAX_MESSAGE, Settings};
use russh::keys::ssh_key::certificate::{CertType, OptionsMap};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate as Parsed, PublicKey};
use service::Failure;

use crate::sandbox;

/// Answers the question in descriptor 0 on descriptor 1.
pub fn read() -> Result<(), Failure> {
    let question = sys::fds::read_shared(&std::io::stdin(), MAX_MESSAGE)?;
    let question: CertificateQuestion = gateway_wire::decode(&question)?;
    sandbox::enter(&Settings {
        user: question.user,
        empty_root: question.empty_root,
        ..Settings::default()
    })?;
    let answer = parse(&question.certificate);
    std::io::stdout().write_all(&gateway_wire::encode(&answer)?)?;
    Ok(())
}

/// `None` if it is malformed or not signed by the authority that it names.
fn parse(bytes: &[u8]) -> Option<Certificate> {
    let parsed = Parsed::from_bytes(bytes).ok()?;
    // What is judged must be what was signed: the parser leaves nothing out.
    if parsed.to_bytes().ok()? != bytes {
        return None;
    }
    parsed.verify_signature().ok()?;
    let blob = |key: &KeyData| PublicKey::new(key.clone(), "").to_bytes().ok();
    let options = |map: &OptionsMap| map.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    Some(Certificate {
        name: parsed.algorithm().to_certificate_type(),
        key: blob(parsed.public_key())?,
        serial: parsed.serial(),
        for_user: parsed.cert_type() == CertType::User,
        key_id: parsed.key_id().to_owned(),
        principals: parsed.valid_principals().to_vec(),
        valid_after: parsed.valid_after(),
        valid_before: parsed.valid_before(),
        critical_options: options(parsed.critical_options()),
        extensions: options(parsed.extensions()),
        authority: blob(parsed.signature_key())?,
        signature: parsed.signature().algorithm().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // ssh-keygen -s ca -I id-one -n alice -z 5 u1.pub
    const TEXT: &str = include_str!("../../monitor/testdata/u1-cert.pub");

    #[test]
    fn reads_what_its_authority_has_signed_and_nothing_else() {
        let bytes = Parsed::from_openssh(TEXT).unwrap().to_bytes().unwrap();
        let read = parse(&bytes).unwrap();
        assert_eq!(
            (read.serial, read.key_id.as_str(), read.for_user),
            (5, "id-one", true)
        );
        assert_eq!(read.principals, ["alice"]);
        assert_eq!(read.name, "ssh-ed25519-cert-v01@openssh.com");
        assert_eq!(read.signature, "ssh-ed25519");
        assert!(read.extensions.iter().any(|(name, _)| name == "permit-pty"));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(parse(&changed), None, "{at}");
            assert_eq!(parse(&bytes[..at]), None, "{at}");
        }
        assert_eq!(parse(&[&bytes[..], b"x"].concat()), None);
    }
}
