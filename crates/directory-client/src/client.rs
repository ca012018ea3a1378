//! One connection, one request, one bounded answer, one deadline.
//!
//! No retries and no caching: the daemon beside us is the cache.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use crate::{
    Account, Change, ClientError, Database, Entry, Explanation, Lookup, Password, Status, Verdict,
    codec::{Answer, CodecError, MAX_ANSWER, Request, body_length},
};

/// The longest that the daemon takes for a password, its own pause after a refusal included.
const PASSWORD: Duration = Duration::from_secs(30);

/// A way to the daemon. Holds no descriptor, so it may outlive forks and daemon restarts.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// Where the daemon listens unless configured otherwise.
    pub const DEFAULT_PATH: &str = "/run/directoryd/control.sock";

    /// A client for the control socket at `path`; each call may take two seconds longer than the
    /// daemon was given for its own work.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            timeout: Duration::from_secs(2),
        }
    }

    /// The same client with another allowance for connecting, asking and reading.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The socket this client asks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks up one directory user with groups, keys and state.
    ///
    /// The daemon asks the directory server within `budget` and answers from its replica when the
    /// server does not; [`Account::fresh`] and [`Account::age`] tell which. What the server said is
    /// visible through libc before this returns. A user of `/etc/passwd` is [`Lookup::NotFound`]
    /// here: local users are libc's matter.
    ///
    /// # Errors
    /// [`ClientError`] if no daemon answered; never because of the directory server.
    pub fn account(&self, user: &str, budget: Duration) -> Result<Lookup<Account>, ClientError> {
        let request = Request::Account {
            user: user.to_owned(),
            budget,
        };
        match self.ask(&request, budget)? {
            Answer::Account(lookup) => Ok(lookup),
            other => Err(self.unexpected(other)),
        }
    }

    /// Offers a user's password to the directory. `source` is where the login comes from (an address,
    /// or empty), for the limits on attempts. A refusal comes after a fixed time.
    ///
    /// # Errors
    /// [`ClientError`] if no daemon answered; never because of the directory server.
    pub fn authenticate(
        &self,
        user: &str,
        password: Password,
        source: &str,
    ) -> Result<Verdict, ClientError> {
        let request = Request::Authenticate {
            user: user.to_owned(),
            password,
            source: source.to_owned(),
        };
        match self.ask(&request, PASSWORD)? {
            Answer::Verdict(verdict) => Ok(verdict),
            other => Err(self.unexpected(other)),
        }
    }

    /// Gives a user a new password, as the user: the old one is what allows it. Limits as in
    /// [`Self::authenticate`].
    ///
    /// # Errors
    /// [`ClientError`] if no daemon answered; never because of the directory server.
    pub fn change_password(
        &self,
        user: &str,
        old: Password,
        new: Password,
        source: &str,
    ) -> Result<Change, ClientError> {
        let request = Request::Change {
            user: user.to_owned(),
            old,
            new,
            source: source.to_owned(),
        };
        match self.ask(&request, PASSWORD)? {
            Answer::Change(change) => Ok(change),
            other => Err(self.unexpected(other)),
        }
    }

    /// Why a user may or may not log in; the directory server is asked within `budget`.
    ///
    /// # Errors
    /// [`ClientError`] if no daemon answered.
    pub fn explain(&self, user: &str, budget: Duration) -> Result<Explanation, ClientError> {
        let request = Request::Explain {
            user: user.to_owned(),
            budget,
        };
        match self.ask(&request, budget)? {
            Answer::Explanation(explanation) => Ok(explanation),
            other => Err(self.unexpected(other)),
        }
    }

    /// Drops all passwords that are kept for when no server answers; how many that were.
    ///
    /// # Errors
    /// [`ClientError`] if no daemon answered.
    pub fn forget_passwords(&self) -> Result<u64, ClientError> {
        match self.ask(&Request::Forget, Duration::ZERO)? {
            Answer::Forgotten(count) => Ok(count),
            other => Err(self.unexpected(other)),
        }
    }

    /// What libc sees, and where it comes from; the daemon's copy alone is asked.
    ///
    /// # Errors
    /// [`ClientError`] if no daemon answered.
    pub fn entry(&self, database: Database, key: &str) -> Result<Lookup<Entry>, ClientError> {
        let request = Request::Entry {
            database,
            key: key.to_owned(),
        };
        match self.ask(&request, Duration::ZERO)? {
            Answer::Entry(lookup) => Ok(lookup),
            other => Err(self.unexpected(other)),
        }
    }

    /// How the daemon is.
    ///
    /// # Errors
    /// [`ClientError`] if no daemon answered.
    pub fn status(&self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status, Duration::ZERO)? {
            Answer::Status(status) => Ok(status),
            other => Err(self.unexpected(other)),
        }
    }

    /// Replicates the whole directory now; when this returns, libc sees the result.
    ///
    /// # Errors
    /// [`ClientError::Daemon`] if the directory server could not be read.
    pub fn refresh(&self) -> Result<(), ClientError> {
        match self.ask(&Request::Refresh, Duration::from_secs(60))? {
            Answer::Refreshed => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    fn ask(&self, request: &Request, work: Duration) -> Result<Answer, ClientError> {
        // It may hold a password.
        let frame = Zeroizing::new(request.encode());
        let deadline = Instant::now() + self.timeout + work;
        let mut stream = self.connect(deadline)?;
        self.write_all(&mut stream, &frame, deadline)?;
        let mut prefix = [0; 4];
        self.read_exact(&mut stream, &mut prefix, deadline)?;
        let length = body_length(prefix, MAX_ANSWER).map_err(|error| self.malformed(error))?;
        let mut body = vec![0; length];
        self.read_exact(&mut stream, &mut body, deadline)?;
        Answer::decode(&body).map_err(|error| self.malformed(error))
    }

    /// A Unix connect blocks without limit while the daemon's queue is full, and `std` has no
    /// timeout for it: so it happens on a thread that is given up at the deadline.
    fn connect(&self, deadline: Instant) -> Result<UnixStream, ClientError> {
        let path = self.path.clone();
        let (sender, receiver) = mpsc::sync_channel(1);
        let connecting = thread::Builder::new()
            .name("directory-connect".into())
            .stack_size(64 * 1024)
            .spawn(move || sender.send(UnixStream::connect(path)))
            .map_err(|source| self.connect_error(source))?;
        let result = receiver
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .map_err(|_| ClientError::Deadline {
                path: self.path.clone(),
            })?;
        // It has sent, so it ends at once: the caller is back to the threads it had.
        let _ = connecting.join();
        result.map_err(|source| self.connect_error(source))
    }

    fn write_all(
        &self,
        stream: &mut UnixStream,
        mut bytes: &[u8],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            stream
                .set_write_timeout(Some(self.left(deadline)?))
                .map_err(|source| self.talk_error(source))?;
            match stream.write(bytes) {
                Ok(0) => return Err(self.talk_error(io::ErrorKind::WriteZero.into())),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_retry(&error) => {}
                Err(source) => return Err(self.talk_error(source)),
            }
        }
        Ok(())
    }

    fn read_exact(
        &self,
        stream: &mut UnixStream,
        mut bytes: &mut [u8],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            stream
                .set_read_timeout(Some(self.left(deadline)?))
                .map_err(|source| self.talk_error(source))?;
            match stream.read(bytes) {
                Ok(0) => return Err(self.talk_error(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if is_retry(&error) => {}
                Err(source) => return Err(self.talk_error(source)),
            }
        }
        Ok(())
    }

    fn left(&self, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        // A zero socket timeout would mean "for ever".
        if left < Duration::from_micros(1) {
            return Err(ClientError::Deadline {
                path: self.path.clone(),
            });
        }
        Ok(left)
    }

    fn unexpected(&self, answer: Answer) -> ClientError {
        match answer {
            Answer::Denied => ClientError::Denied {
                path: self.path.clone(),
            },
            Answer::Failed(reason) => ClientError::Daemon(reason),
            Answer::Account(_)
            | Answer::Status(_)
            | Answer::Refreshed
            | Answer::Verdict(_)
            | Answer::Change(_)
            | Answer::Explanation(_)
            | Answer::Entry(_)
            | Answer::Forgotten(_) => self.malformed(CodecError::Value),
        }
    }

    fn malformed(&self, source: CodecError) -> ClientError {
        ClientError::Malformed {
            path: self.path.clone(),
            source,
        }
    }

    fn connect_error(&self, source: io::Error) -> ClientError {
        ClientError::Connect {
            path: self.path.clone(),
            source,
        }
    }

    fn talk_error(&self, source: io::Error) -> ClientError {
        ClientError::Talk {
            path: self.path.clone(),
            source,
        }
    }
}

/// A timeout comes as `WouldBlock`; the loop then sees the deadline itself.
fn is_retry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::net::UnixListener};

    /// A daemon that sends `bytes` to one caller and keeps the line open for a while.
    fn serve(name: &str, bytes: Vec<u8>, hold: Duration) -> Client {
        let folder =
            std::env::temp_dir().join(format!("directory-client-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("control.sock");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut prefix = [0; 4];
            stream.read_exact(&mut prefix).unwrap();
            let mut body = vec![0; body_length(prefix, 4096).unwrap()];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(&bytes).unwrap();
            thread::sleep(hold);
            let _ = fs::remove_dir_all(folder);
        });
        Client::new(path).with_timeout(Duration::from_millis(200))
    }

    #[test]
    fn an_answer_is_read_and_a_wrong_one_refused() {
        let client = serve("right", Answer::Refreshed.encode(), Duration::ZERO);
        client.refresh().unwrap();
        let client = serve("wrong", Answer::Refreshed.encode(), Duration::ZERO);
        assert!(matches!(
            client.status(),
            Err(ClientError::Malformed { .. })
        ));
        let client = serve("denied", Answer::Denied.encode(), Duration::ZERO);
        assert!(matches!(client.status(), Err(ClientError::Denied { .. })));
        let client = serve("huge", vec![0xff; 64], Duration::ZERO);
        assert!(matches!(
            client.status(),
            Err(ClientError::Malformed {
                source: CodecError::TooLong(_),
                ..
            })
        ));
        let client = serve("short", vec![9, 0, 0, 0, 1], Duration::ZERO);
        assert!(matches!(client.status(), Err(ClientError::Talk { .. })));
    }

    #[test]
    fn a_silent_daemon_costs_the_deadline_and_no_more() {
        let client = serve("silent", vec![9, 0], Duration::from_secs(5));
        assert!(matches!(client.status(), Err(ClientError::Deadline { .. })));
    }

    #[test]
    fn a_missing_daemon_is_a_connect_error() {
        let client = Client::new("/nonexistent/control.sock");
        assert!(matches!(client.status(), Err(ClientError::Connect { .. })));
    }
}
