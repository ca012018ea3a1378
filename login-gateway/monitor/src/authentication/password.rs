//! Passwords and dialogues, which PAM decides. A name that may not log in takes the same steps with
//! answers that are wrong, so that neither words nor time tell who is known.

use std::io;
use std::time::Instant;

use gateway_wire::monitor::Typed;
use gateway_wire::policy::Restrictions;
use pam::{MAX_ANSWER, PamError};

use super::candidate::{Candidate, Factor};
use super::dialogue::{Pam, Voice};
use super::{Attempt, Authentication, Evidence};

impl Authentication<'_> {
    /// The method `password`. A password that must be changed is no success here, since russh has
    /// no message for it; the dialogue is offered then.
    pub(super) fn password(
        &mut self,
        candidate: &mut Candidate,
        password: Typed,
        heard: Instant,
    ) -> io::Result<Attempt> {
        let typed = password.expose();
        if typed.is_empty() || typed.len() > MAX_ANSWER || typed.contains(&0) {
            return Ok(refused("not a password", heard));
        }
        let Some(service) = &self.settings.pam_service else {
            return Ok(refused("no PAM service is configured", heard));
        };
        let may = candidate.may_log_in().map(|_| ());
        let voice = Voice::password(password, may.is_ok());
        let passed = Pam::start(
            service,
            &candidate.name,
            &self.endpoints,
            voice,
            &candidate.factors,
        )
        .and_then(|mut pam| pam.authenticate().map(|()| pam));
        Ok(match (passed, may) {
            (Ok(mut pam), Ok(())) => {
                pam.hush();
                factor("password", pam)
            }
            (_, Err(reason)) => refused(reason, heard),
            (Err(error), Ok(())) => refused(words(&error), heard),
        })
    }

    /// The method `keyboard-interactive`: authentication, account and a new password where one is
    /// due, in one dialogue.
    pub(super) fn interactive(
        &mut self,
        candidate: &mut Candidate,
        heard: Instant,
    ) -> io::Result<Attempt> {
        let Some(service) = &self.settings.pam_service else {
            return Ok(refused("no PAM service is configured", heard));
        };
        let may = candidate.may_log_in().map(|_| ());
        let voice = Voice::user(self.link.clone(), self.deadline, may.is_ok());
        let mut passed = Pam::start(
            service,
            &candidate.name,
            &self.endpoints,
            voice.clone(),
            &candidate.factors,
        )
        .and_then(|mut pam| pam.authenticate().map(|()| pam));
        if let (Ok(pam), Ok(())) = (&mut passed, &may)
            && let Err(error) = pam.account_with_new_password()
        {
            passed = Err(error);
        }
        let reason = match (passed, may) {
            (Ok(mut pam), Ok(())) => {
                pam.hush();
                return Ok(factor("keyboard-interactive/pam", pam));
            }
            (_, Err(reason)) => reason,
            (Err(error), Ok(())) => words(&error),
        };
        voice.show_rest();
        Ok(match voice.interrupted() {
            Some(event) => Attempt::Interrupted(event),
            None => refused(reason, voice.heard()),
        })
    }
}

fn factor(line: &str, pam: Pam) -> Attempt {
    Attempt::Passed(Box::new(Factor {
        line: line.to_owned(),
        evidence: Evidence::default(),
        key: None,
        restrictions: Restrictions::default(),
        pam: Some(pam),
    }))
}

fn refused(reason: impl Into<String>, heard: Instant) -> Attempt {
    Attempt::Refused {
        reason: reason.into(),
        evidence: Evidence::default(),
        heard: Some(heard),
    }
}

/// A stack that is not set up, or cannot reach what it needs, is the operator's matter: said loudly.
fn words(error: &PamError) -> String {
    if matches!(
        error,
        PamError::Other { .. } | PamError::AuthInfoUnavailable | PamError::UserChanged
    ) {
        tracing::error!(event = "pam.failed", error = service::exit::chain(error));
    }
    error.to_string()
}
