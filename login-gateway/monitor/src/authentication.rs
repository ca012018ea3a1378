//! Who may log in: one connection's authentication as a state machine. Each question of net's is
//! one attempt at one method; what was passed counts for one user name only.
//!
//! **Invariant:** an [`AuthenticatedUser`] is made here alone, at the end of a whole way in.

mod candidate;
mod certificate;
mod dialogue;
mod key_policy;
mod password;
mod public_key;
mod revocation;
mod ways;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gateway_wire::accept::Endpoints;
use gateway_wire::doors::Failure;
use gateway_wire::monitor::{FromNet, GRACE_IS_OVER, Method, ToNet};
use gateway_wire::numbers::{Step, Tally, Verdict};
use gateway_wire::{Settings, UserName};
use nix::unistd::User;
use pam::PamError;
use sys::identity::Identity;

use self::candidate::Factor;
pub use self::candidate::{Candidate, Granted};
pub use self::dialogue::Pam;
pub use self::key_policy::key_type;
use crate::account::NoAccount;
use crate::link::{Event, Link};
use crate::login_records;
use crate::trace::Trace;
use crate::user_session::{self, AuthenticatedUser};

/// A refused password takes this long, or a multiple of it, from the client's last word, whatever
/// the reason was.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// What a question led to.
pub enum Outcome {
    /// This is the answer; authentication goes on.
    Answer(ToNet),
    /// The client broke a dialogue off, whose last question has its answer already; this is what
    /// came instead.
    Interrupted(Event),
    /// All factors are good, and PAM tells the user why they may not log in all the same.
    Denied(String),
    /// Policy ends the connection of whoever says that name.
    RefusedAltogether,
    /// All factors are good, PAM agrees.
    Authenticated(Box<AuthenticatedUser>),
}

/// What one attempt led to.
enum Attempt {
    /// The offered key may be used.
    Usable,
    /// The factor is good.
    Passed(Box<Factor>),
    /// It is not; the reason is for the log alone. `heard`: the client's last word, where the time
    /// of the refusal is to be the same for every reason.
    Refused {
        reason: String,
        evidence: Evidence,
        heard: Option<Instant>,
    },
    /// As [`Outcome::Interrupted`].
    Interrupted(Event),
}

/// What an attempt was made with; for the record.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Fingerprint of the key.
    pub key: Option<String>,
    /// Where the key, or the certificate's authority, was found.
    pub found: Option<&'static str>,
    /// Name of the certificate.
    pub certificate: Option<String>,
    /// Its number.
    pub serial: Option<u64>,
    /// Fingerprint of its authority.
    pub authority: Option<String>,
}

/// The authentication of one connection.
pub struct Authentication<'a> {
    settings: &'a Settings,
    endpoints: Endpoints,
    link: Rc<RefCell<Link>>,
    deadline: Instant,
    /// Under which the files of a user that does not exist are looked for.
    nobody: Identity,
    /// Questions left; net counts attempts, this holds a net that does not.
    questions: usize,
    /// Refused attempts left.
    tries: usize,
    candidate: Option<Candidate>,
    /// Something has been refused.
    has_failed: bool,
    /// A name was said that nobody has.
    unknown_user: bool,
    /// When the connection came, and the first question.
    begun: Instant,
    first_question: Option<Instant>,
    tally: Tally,
    trace: Trace,
}

impl<'a> Authentication<'a> {
    /// Of this connection, until `deadline`.
    pub fn new(
        settings: &'a Settings,
        endpoints: Endpoints,
        link: Rc<RefCell<Link>>,
        deadline: Instant,
    ) -> io::Result<Self> {
        let mut nobody = Identity {
            uid: 65534,
            gid: 65534,
            groups: vec![65534],
        };
        if let Some(name) = &settings.user {
            let user = User::from_name(name)?.ok_or(io::ErrorKind::NotFound)?;
            let gid = user.gid.as_raw();
            nobody = Identity {
                uid: user.uid.as_raw(),
                gid,
                groups: vec![gid],
            };
        }
        Ok(Self {
            settings,
            endpoints,
            link,
            deadline,
            nobody,
            questions: 4 * settings.max_auth_tries.max(1),
            // russh ends the connection with polite words one refusal earlier.
            tries: settings.max_auth_tries.saturating_add(1),
            candidate: None,
            has_failed: false,
            unknown_user: false,
            begun: Instant::now(),
            first_question: None,
            tally: Tally::default(),
            trace: Trace::begin(),
        })
    }

    /// How a connection has failed that net ended for this reason.
    pub fn failure(&self, reason: &str) -> Failure {
        if reason == GRACE_IS_OVER {
            Failure::GraceExceeded
        } else if self.unknown_user {
            Failure::InvalidUser
        } else if self.has_failed {
            Failure::AuthFail
        } else {
            Failure::NoAuth
        }
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How the login went, and whether it came to a question.
    pub fn into_trace(self) -> (Trace, bool) {
        (self.trace, self.first_question.is_some())
    }

    fn took(&mut self, step: Step, begun: Instant, ended: Instant) {
        let time = ended.saturating_duration_since(begun);
        self.tally.took(step, time);
        self.trace.took_until(step, begun, ended);
    }

    /// Takes one question.
    ///
    /// # Errors
    /// If it is none, or one too many; the connection must then end.
    pub fn take(&mut self, question: FromNet) -> io::Result<Outcome> {
        let heard = Instant::now();
        if self.first_question.is_none() {
            self.first_question = Some(heard);
            self.took(Step::KeyExchange, self.begun, heard);
        }
        self.questions = self
            .questions
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("net asked more often than any client may try"))?;
        let (user, method) = match &question {
            FromNet::Methods { user } => (user, None),
            FromNet::KeyOffered { user, .. }
            | FromNet::KeyVerified { user, .. }
            | FromNet::CertificateVerified { user, .. } => (user, Some(Method::PublicKey)),
            FromNet::Password { user, .. } => (user, Some(Method::Password)),
            FromNet::Interactive { user } => (user, Some(Method::KeyboardInteractive)),
            _ => return Err(io::Error::other("net spoke out of order")),
        };
        let mut candidate = self.candidate(user)?;
        if candidate.policy.refuse_connection && candidate.break_glass.is_none() {
            tracing::info!(
                target: "audit",
                event = "auth.refused",
                user = %candidate.name,
                reason = "refuse-connection",
            );
            return Ok(Outcome::RefusedAltogether);
        }
        self.unknown_user |= matches!(candidate.account, Err(NoAccount::Unknown));
        let Some(method) = method else {
            let answer = refusal(&candidate, false);
            self.candidate = Some(candidate);
            return Ok(Outcome::Answer(answer));
        };
        let attempt = if candidate.ways.offer(method) {
            match question {
                FromNet::KeyOffered { key, rsa, .. } => {
                    self.key_offered(&mut candidate, &key, rsa)?
                }
                FromNet::KeyVerified { key, rsa, .. } => {
                    self.key_verified(&mut candidate, key, rsa)?
                }
                FromNet::Password { password, .. } => {
                    self.password(&mut candidate, password, heard)?
                }
                FromNet::Interactive { .. } => self.interactive(&mut candidate, heard)?,
                FromNet::CertificateVerified {
                    certificate, rsa, ..
                } => self.certificate_verified(&mut candidate, &certificate, rsa)?,
                _ => return Err(io::Error::other("net spoke out of order")),
            }
        } else {
            Attempt::refused("the method is not offered", Evidence::default())
        };
        self.decide(candidate, method, attempt)
    }

    /// Who the question is about. Another name begins anew: what was passed for one user says
    /// nothing about another (RFC 4252 section 5).
    fn candidate(&mut self, user: &UserName) -> io::Result<Candidate> {
        match self.candidate.take() {
            Some(candidate) if candidate.name == *user => Ok(candidate),
            _ => {
                let begun = Instant::now();
                let candidate = Candidate::find(self.settings, user, self.endpoints);
                self.took(Step::Lookup, begun, Instant::now());
                Ok(candidate)
            }
        }
    }

    fn decide(
        &mut self,
        mut candidate: Candidate,
        method: Method,
        attempt: Attempt,
    ) -> io::Result<Outcome> {
        let (reason, evidence, heard) = match attempt {
            Attempt::Usable => {
                self.candidate = Some(candidate);
                return Ok(Outcome::Answer(ToNet::Accepted));
            }
            Attempt::Interrupted(event) => {
                // Else a client could have a new dialogue as often as it likes.
                self.tally.tried(method, Verdict::Refused);
                self.refused()?;
                self.candidate = Some(candidate);
                return Ok(Outcome::Interrupted(event));
            }
            Attempt::Refused {
                reason,
                evidence,
                heard,
            } => (reason, evidence, heard),
            Attempt::Passed(factor) => {
                let evidence = factor.evidence.clone();
                match candidate.pass(method, *factor) {
                    Err(reason) => (reason, evidence, None),
                    Ok(false) => {
                        record_partial(&candidate, method, &evidence);
                        self.tally.tried(method, Verdict::Partial);
                        let answer = refusal(&candidate, true);
                        self.candidate = Some(candidate);
                        return Ok(Outcome::Answer(answer));
                    }
                    Ok(true) => match self.admit(candidate, method, evidence)? {
                        Admission::Done(outcome) => return Ok(outcome),
                        Admission::Refused(back, reason, evidence) => {
                            candidate = *back;
                            (reason, evidence, None)
                        }
                    },
                }
            }
        };
        record_refusal(&candidate, method, &evidence, &reason);
        self.tally.tried(method, Verdict::Refused);
        if method != Method::PublicKey {
            login_records::failed(self.settings, &candidate.name, self.endpoints.source.ip());
        }
        self.refused()?;
        let answer = refusal(&candidate, false);
        self.candidate = Some(candidate);
        if let Some(heard) = heard {
            wait_out(heard);
        }
        Ok(Outcome::Answer(answer))
    }

    /// The way in is complete: PAM has the last word.
    fn admit(
        &mut self,
        mut candidate: Candidate,
        method: Method,
        evidence: Evidence,
    ) -> io::Result<Admission> {
        let account = match candidate.may_log_in() {
            Ok(account) => account.clone(),
            // No factor is passed for such an account; this is the second lock on that door.
            Err(reason) => {
                candidate.begin_anew();
                return Ok(Admission::Refused(Box::new(candidate), reason, evidence));
            }
        };
        let begun = Instant::now();
        let since = self.first_question.unwrap_or(begun);
        self.took(Step::Authentication, since, begun);
        let judged = self.account_step(&mut candidate);
        self.took(Step::Account, begun, Instant::now());
        match judged {
            Ok(()) => {}
            Err(error) if candidate.break_glass.is_some() => {
                tracing::error!(event = "break_glass.without_pam", user = %candidate.name, %error);
                candidate.pam = None;
            }
            Err(PamError::NewAuthTokRequired) if !candidate.must_change => {
                tracing::info!(event = "password.must_change", user = %candidate.name);
                candidate.only_a_new_password_is_missing();
                record_partial(&candidate, method, &evidence);
                self.tally.tried(method, Verdict::Partial);
                let answer = refusal(&candidate, true);
                self.candidate = Some(candidate);
                return Ok(Admission::Done(Outcome::Answer(answer)));
            }
            // As sshd does: such a one need not guess, and trying again changes nothing.
            Err(error) if !candidate.notices.is_empty() => {
                record_refusal(&candidate, method, &evidence, &error.to_string());
                self.tally.tried(method, Verdict::Refused);
                let words = candidate.notices.join("\n");
                return Ok(Admission::Done(Outcome::Denied(words)));
            }
            Err(error) => {
                candidate.begin_anew();
                let reason = error.to_string();
                return Ok(Admission::Refused(Box::new(candidate), reason, evidence));
            }
        }
        record_acceptance(&candidate);
        self.tally.tried(method, Verdict::Accepted);
        let user = user_session::authenticated(account, candidate.into_granted());
        Ok(Admission::Done(Outcome::Authenticated(Box::new(user))))
    }

    /// PAM's account step, unless a dialogue has had it.
    fn account_step(&self, candidate: &mut Candidate) -> Result<(), PamError> {
        if candidate.pam.is_none()
            && let Some(service) = &self.settings.pam_service
        {
            let silent = dialogue::Voice::silent();
            candidate.pam = Some(Pam::start(
                service,
                &candidate.name,
                &self.endpoints,
                silent,
                &candidate.factors,
            )?);
        }
        let Some(pam) = &mut candidate.pam else {
            return Ok(());
        };
        let decided = if pam.judged { Ok(()) } else { pam.account() };
        let said = pam.texts();
        for text in &said {
            tracing::info!(event = "pam.message", user = %candidate.name, message = text);
        }
        candidate.notices.extend(said);
        decided
    }

    fn refused(&mut self) -> io::Result<()> {
        self.has_failed = true;
        self.tries = self
            .tries
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("too many refused attempts"))?;
        Ok(())
    }
}

enum Admission {
    Done(Outcome),
    Refused(Box<Candidate>, String, Evidence),
}

impl Attempt {
    fn refused(reason: impl Into<String>, evidence: Evidence) -> Self {
        Self::Refused {
            reason: reason.into(),
            evidence,
            heard: None,
        }
    }
}

/// The same for whom it may concern and for whom it may not.
fn refusal(candidate: &Candidate, partial: bool) -> ToNet {
    ToNet::Refused {
        methods: candidate.ways.offered(),
        partial,
    }
}

/// Until the next multiple of [`REFUSAL_TIME`].
fn wait_out(heard: Instant) {
    let taken = heard.elapsed();
    let step = REFUSAL_TIME.as_millis();
    let whole = REFUSAL_TIME * u32::try_from(taken.as_millis() / step + 1).unwrap_or(1);
    std::thread::sleep(whole.saturating_sub(taken));
}

fn record_refusal(candidate: &Candidate, method: Method, evidence: &Evidence, reason: &str) {
    if candidate.break_glass.is_some() {
        tracing::error!(
            target: "audit",
            event = "break_glass.refused",
            user = %candidate.name,
            method = method.name(),
            key = evidence.key,
            reason,
        );
    }
    tracing::info!(
        target: "audit",
        event = "auth.refused",
        user = %candidate.name,
        method = method.name(),
        key = evidence.key,
        certificate = evidence.certificate,
        serial = evidence.serial,
        authority = evidence.authority,
        reason,
    );
}

fn record_partial(candidate: &Candidate, method: Method, evidence: &Evidence) {
    tracing::info!(
        target: "audit",
        event = "auth.partial",
        user = %candidate.name,
        method = method.name(),
        key = evidence.key,
        certificate = evidence.certificate,
        serial = evidence.serial,
        authority = evidence.authority,
    );
}

fn record_acceptance(candidate: &Candidate) {
    let evidence = candidate.evidence();
    if candidate.break_glass.is_some() {
        tracing::error!(
            target: "audit",
            event = "break_glass.used",
            user = %candidate.name,
            key = evidence.key,
        );
    }
    tracing::info!(
        target: "audit",
        event = "auth.accepted",
        user = %candidate.name,
        method = candidate.methods(),
        key = evidence.key,
        found = evidence.found,
        certificate = evidence.certificate,
        serial = evidence.serial,
        authority = evidence.authority,
    );
}
