//! russh's questions of authentication as messages to the monitor, and its answers as russh's. What
//! is good enough is decided there; here is only what russh alone knows, the algorithm of a
//! signature.

use std::borrow::Cow;
use std::sync::Arc;

use gateway_wire::monitor::{FromNet, Method, RsaHash, ToNet, Typed};
use gateway_wire::{Settings, UserName};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use russh::server::{Auth, Response};
use russh::{MethodKind, MethodSet};

use crate::monitor_link::MonitorLink;

/// Responses of one round that are passed on; PAM asks 32 questions at most.
const MAX_RESPONSES: usize = 64;

/// Stands for names that no user can have, and is none itself: useradd(8) takes no question mark.
const NOT_A_NAME: &str = "?";

/// One connection's questions.
pub struct Authentication {
    monitor: Arc<MonitorLink>,
    /// What may go on, as the monitor said last.
    methods: MethodSet,
    /// How the key that was offered last would sign: russh does not say it again when a certificate has.
    rsa: Option<RsaHash>,
    /// With which the connection is to end.
    farewell: Option<String>,
}

impl Authentication {
    /// Asks this monitor.
    pub fn new(monitor: Arc<MonitorLink>, settings: &Settings) -> Self {
        Self {
            monitor,
            methods: first_methods(settings),
            rsa: None,
            farewell: None,
        }
    }

    /// The words with which the connection is to end although every factor was good.
    pub fn farewell(&mut self) -> Option<String> {
        self.farewell.take()
    }

    /// Which methods there are for the user.
    pub async fn methods(&mut self, user: &str) -> Auth {
        self.ask(user, |user| FromNet::Methods { user }).await
    }

    /// A key that the client would sign with.
    pub async fn key_offered(
        &mut self,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Auth {
        let rsa = rsa_hash(algorithm);
        self.rsa = rsa;
        let Ok(key) = key.to_bytes() else {
            return self.methods(user).await;
        };
        self.ask(user, |user| FromNet::KeyOffered { user, key, rsa })
            .await
    }

    /// A key that the client has signed with.
    pub async fn key_verified(
        &mut self,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Auth {
        let rsa = rsa_hash(algorithm);
        let Ok(key) = key.to_bytes() else {
            return self.methods(user).await;
        };
        self.ask(user, |user| FromNet::KeyVerified { user, key, rsa })
            .await
    }

    /// A certificate with whose key the client has signed.
    pub async fn certificate_verified(&mut self, user: &str, certificate: &Certificate) -> Auth {
        let Ok(certificate) = certificate.to_bytes() else {
            return self.methods(user).await;
        };
        let rsa = self.rsa;
        self.ask(user, |user| FromNet::CertificateVerified {
            user,
            certificate,
            rsa,
        })
        .await
    }

    /// A password.
    pub async fn password(&mut self, user: &str, password: &str) -> Auth {
        let password = Typed::new(password.as_bytes().to_vec());
        self.ask(user, |user| FromNet::Password { user, password })
            .await
    }

    /// The start of a dialogue, or the client's responses to a round of it.
    pub async fn interactive(&mut self, user: &str, responses: Option<Response<'_>>) -> Auth {
        match responses {
            None => self.ask(user, |user| FromNet::Interactive { user }).await,
            Some(responses) => {
                let typed = responses.take(MAX_RESPONSES);
                let typed = typed.map(|one| Typed::new(one.to_vec())).collect();
                let answer = self.monitor.ask(FromNet::Responses(typed)).await;
                self.answer(answer)
            }
        }
    }

    async fn ask(&mut self, user: &str, question: impl FnOnce(UserName) -> FromNet) -> Auth {
        // No user has a name that is none; it is refused in the steps that any other would take.
        let user = UserName::try_from(user.to_owned());
        let user = user.or_else(|_| UserName::try_from(NOT_A_NAME.to_owned()));
        let answer = match user {
            Ok(user) => self.monitor.ask(question(user)).await,
            Err(_) => None,
        };
        self.answer(answer)
    }

    /// A refusal always names the methods: with `None` russh would strike the method off (T10).
    fn answer(&mut self, answer: Option<ToNet>) -> Auth {
        match answer {
            Some(ToNet::Accepted) => Auth::Accept,
            Some(ToNet::Prompts {
                name,
                instructions,
                prompts,
            }) => Auth::Partial {
                name: Cow::Owned(name),
                instructions: Cow::Owned(instructions),
                prompts: prompts
                    .into_iter()
                    .map(|prompt| (Cow::Owned(prompt.text), prompt.echo))
                    .collect(),
            },
            Some(ToNet::Refused { methods, partial }) => {
                let kinds: Vec<MethodKind> = methods.into_iter().map(kind).collect();
                self.methods = MethodSet::from(&kinds[..]);
                self.refusal(partial)
            }
            // A client hears such words only behind a success: after a refusal it would try its next
            // key or leave. The monitor starts no session, and the connection ends at once.
            Some(ToNet::Denied { words }) => {
                self.farewell = Some(words);
                Auth::Accept
            }
            _ => self.refusal(false),
        }
    }

    fn refusal(&self, partial_success: bool) -> Auth {
        Auth::Reject {
            proceed_with_methods: Some(self.methods.clone()),
            partial_success,
        }
    }
}

/// The methods with which a way in may begin, for what is refused before a user is named.
pub fn first_methods(settings: &Settings) -> MethodSet {
    let ways = settings.authentication_methods.iter();
    let kinds: Vec<MethodKind> = ways
        .filter_map(|way| way.0.first())
        .map(|m| kind(*m))
        .collect();
    MethodSet::from(&kinds[..])
}

fn kind(method: Method) -> MethodKind {
    match method {
        Method::PublicKey => MethodKind::PublicKey,
        Method::Password => MethodKind::Password,
        Method::KeyboardInteractive => MethodKind::KeyboardInteractive,
    }
}

/// How an RSA key signs; what is none of these is SHA-1, or no RSA key.
fn rsa_hash(algorithm: &Algorithm) -> Option<RsaHash> {
    match algorithm {
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha256),
        } => Some(RsaHash::Sha256),
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha512),
        } => Some(RsaHash::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_methods() {
        let methods = first_methods(&Settings::default());
        assert_eq!(methods, MethodSet::from(&[MethodKind::PublicKey][..]));
        assert!(UserName::try_from(NOT_A_NAME.to_owned()).is_ok());
    }
}
