//! The presets of `crypto-policy`, and what each takes from users and their authorities where no key
//! of the configuration says otherwise. What is spoken on the wire is net's matter.

use serde::{Deserialize, Serialize};

use crate::policy::listed;
use crate::settings::{Policy, Settings};

/// Algorithms that are spoken and taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CryptoPolicy {
    /// ML-KEM hybrid and Curve25519, AEAD ciphers, nothing that a scanner faults.
    #[default]
    #[serde(rename = "modern")]
    Modern,
    /// What clients since about 2013 can speak.
    #[serde(rename = "compatible")]
    Compatible,
    /// Algorithms that FIPS 140-3 approves; the library behind them is not validated.
    #[serde(rename = "fips-140-3")]
    Fips140,
}

/// Signatures without SHA-1, in the order of sshd's own list. FIPS 186-5 approves Ed25519, ECDSA and
/// RSA alike, and hardware keys (`sk-`) sign with the first two: so all presets share it. What a
/// later russh might read besides is in none of them.
const SIGNATURES: [&str; 8] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

impl CryptoPolicy {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Compatible => "compatible",
            Self::Fips140 => "fips-140-3",
        }
    }

    /// With which authorities may have signed.
    pub fn authorities(self) -> Vec<String> {
        SIGNATURES.map(Into::into).into()
    }

    /// With which users' keys may sign, those of certificates included.
    pub fn signatures(self) -> Vec<String> {
        let both = |name: &str| [certificate_name(name), name.to_owned()];
        SIGNATURES.into_iter().flat_map(both).collect()
    }

    /// Least length of RSA keys in bits: what lasts beyond 2030 (SP 800-57 part 1, table 2), or what
    /// FIPS 186-5 section 5.1 asks for and `ssh-keygen` made until 2019.
    pub fn rsa_bits(self) -> u32 {
        match self {
            Self::Modern => 3072,
            Self::Compatible | Self::Fips140 => 2048,
        }
    }

    fn complete(
        self,
        signatures: &mut Option<Vec<String>>,
        authorities: &mut Option<Vec<String>>,
        rsa_bits: &mut Option<u32>,
    ) {
        signatures.get_or_insert_with(|| self.signatures());
        authorities.get_or_insert_with(|| self.authorities());
        rsa_bits.get_or_insert(self.rsa_bits());
    }
}

impl Settings {
    /// A login's policy with the preset's values for what the file has left out.
    pub(crate) fn complete(&self, mut policy: Policy) -> Policy {
        self.crypto_policy.complete(
            &mut policy.public_key_algorithms,
            &mut policy.ca_signature_algorithms,
            &mut policy.required_rsa_size,
        );
        policy
    }

    /// All settings with the preset's values for what the file has left out.
    pub fn completed(&self) -> Self {
        let mut all = self.clone();
        all.crypto_policy.complete(
            &mut all.public_key_algorithms,
            &mut all.ca_signature_algorithms,
            &mut all.required_rsa_size,
        );
        all
    }

    /// Whether there may be users who sign with this algorithm, a plain key's or a certificate's.
    pub fn takes_signatures(&self, name: &str) -> bool {
        let preset = self.crypto_policy.signatures();
        let top = self.public_key_algorithms.as_ref().unwrap_or(&preset);
        let blocks = self.r#match.iter();
        let mut lists = blocks
            .filter_map(|block| block.public_key_algorithms.as_ref()?.as_ref())
            .chain([top]);
        let certificate = certificate_name(name);
        lists.any(|list| listed(list, name) || listed(list, &certificate))
    }
}

/// The name of a certificate whose key signs by this algorithm.
pub fn certificate_name(signature: &str) -> String {
    let plain = signature.strip_suffix("@openssh.com").unwrap_or(signature);
    format!("{plain}-cert-v01@openssh.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_openssh() {
        // ssh -Q PubkeyAcceptedAlgorithms of 10.0, without SHA-1 and web browsers' signatures.
        let mut names = CryptoPolicy::Modern.signatures();
        names.sort();
        assert_eq!(
            names,
            [
                "ecdsa-sha2-nistp256",
                "ecdsa-sha2-nistp256-cert-v01@openssh.com",
                "ecdsa-sha2-nistp384",
                "ecdsa-sha2-nistp384-cert-v01@openssh.com",
                "ecdsa-sha2-nistp521",
                "ecdsa-sha2-nistp521-cert-v01@openssh.com",
                "rsa-sha2-256",
                "rsa-sha2-256-cert-v01@openssh.com",
                "rsa-sha2-512",
                "rsa-sha2-512-cert-v01@openssh.com",
                "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
                "sk-ecdsa-sha2-nistp256@openssh.com",
                "sk-ssh-ed25519-cert-v01@openssh.com",
                "sk-ssh-ed25519@openssh.com",
                "ssh-ed25519",
                "ssh-ed25519-cert-v01@openssh.com",
            ]
        );
    }

    #[test]
    fn what_anybody_may_sign_with() {
        let takes = |text: &str, name: &str| {
            let settings: Settings = toml::from_str(text).unwrap();
            settings.takes_signatures(name)
        };
        assert!(takes("", "rsa-sha2-256") && !takes("", "ssh-rsa"));
        let top = "public-key-algorithms = [\"ssh-ed25519-cert*\"]\n";
        assert!(takes(top, "ssh-ed25519") && !takes(top, "rsa-sha2-512"));
        let block = format!("{top}[[match]]\npublic-key-algorithms = [\"rsa-*\"]\n");
        assert!(takes(&block, "rsa-sha2-512") && !takes(&block, "ecdsa-sha2-nistp256"));
    }
}
