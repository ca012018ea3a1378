//! The control socket's connections, up to a whole request and from an answer to its last byte. What
//! a request means is `gateway::commands`' matter.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use gateway_wire::control::{Answer, MAX_REQUEST, Request};
use nix::poll::PollFlags;

/// Connections at one time; above that the oldest is closed.
const MAX_CONNECTIONS: usize = 16;
/// Time from the connection to the end of the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// For root alone.
const MODE: u32 = 0o600;

/// The socket and those who are at it.
#[derive(Debug, Default)]
pub struct Control {
    listener: Option<UnixListener>,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    /// What of the answer is not yet written, once there is one.
    answer: Option<Vec<u8>>,
    deadline: Instant,
}

/// How far a connection has come.
enum Step {
    Wait,
    /// The request is whole.
    Ask(Vec<u8>),
    Over,
}

impl Control {
    /// Listens at `path`, whose folder must exist. Without the socket the gateway serves all the same.
    pub fn listen(path: Option<&Path>) -> Self {
        let listen = |path| {
            let listener = sys::listen::unix_stream(path, MODE)?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>(listener)
        };
        let listener = path.and_then(|path| {
            listen(path)
                .inspect_err(|error| {
                    let path = path.display();
                    tracing::warn!(event = "control.failed", %path, %error, "no sessions, drain, status");
                })
                .ok()
        });
        Self {
            listener,
            connections: Vec::new(),
        }
    }

    /// What is waited for.
    pub fn awaited(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listener = self.listener.iter().map(|l| (l.as_fd(), PollFlags::POLLIN));
        listener.chain(self.connections.iter().map(|c| match c.answer {
            None => (c.stream.as_fd(), PollFlags::POLLIN),
            Some(_) => (c.stream.as_fd(), PollFlags::POLLOUT),
        }))
    }

    /// When the next connection has used up its time.
    pub fn due(&self) -> Option<Instant> {
        self.connections.iter().map(|c| c.deadline).min()
    }

    /// Goes on as far as the sockets let it; a whole request is `answer`ed.
    pub fn go_on(&mut self, mut answer: impl FnMut(Request) -> Answer) {
        let now = Instant::now();
        self.accept(now);
        self.connections.retain_mut(|connection| {
            let step = connection.step();
            let goes_on = match step {
                Step::Over => false,
                Step::Wait => true,
                Step::Ask(request) => {
                    let answer = match serde_json::from_slice(&request) {
                        Ok(request) => answer(request),
                        Err(error) => Answer::Refused(error.to_string()),
                    };
                    connection.answer = serde_json::to_vec(&answer).ok();
                    !matches!(connection.step(), Step::Over)
                }
            };
            goes_on && connection.deadline > now
        });
    }

    fn accept(&mut self, now: Instant) {
        let Some(listener) = &self.listener else {
            return;
        };
        while let Ok((stream, _)) = listener.accept() {
            // The mode of the socket says the same; a folder's or a mount's may not.
            let ours = sys::peer::credentials(&stream)
                .is_ok_and(|peer| peer.uid == nix::unistd::geteuid().as_raw());
            if !ours || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() >= MAX_CONNECTIONS {
                self.connections.remove(0);
            }
            self.connections.push(Connection {
                stream,
                received: Vec::new(),
                answer: None,
                deadline: now + DEADLINE,
            });
        }
    }
}

impl Connection {
    fn step(&mut self) -> Step {
        let result = match &mut self.answer {
            None => self.read(),
            Some(answer) => write(&mut self.stream, answer),
        };
        match result {
            Ok(step) => step,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Wait,
            Err(_) => Step::Over,
        }
    }

    fn read(&mut self) -> io::Result<Step> {
        let mut buffer = [0; 4096];
        loop {
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(Step::Ask(std::mem::take(&mut self.received)));
            }
            self.received.extend_from_slice(&buffer[..read]);
            if self.received.len() > MAX_REQUEST {
                return Ok(Step::Over);
            }
        }
    }
}

fn write(stream: &mut UnixStream, answer: &mut Vec<u8>) -> io::Result<Step> {
    while !answer.is_empty() {
        let written = stream.write(answer)?;
        answer.drain(..written);
    }
    Ok(Step::Over)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    /// What comes back for these bytes.
    fn ask(control: &mut Control, path: &Path, bytes: &[u8]) -> String {
        let mut client = UnixStream::connect(path).unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        control.go_on(|request| match request {
            Request::Sessions => Answer::Sessions(Vec::new()),
            other => Answer::Refused(format!("{other:?}")),
        });
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_request_an_answer_and_what_is_neither() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let mut control = Control::listen(Some(&path));
        assert_eq!(
            ask(&mut control, &path, b"\"sessions\""),
            r#"{"sessions":[]}"#
        );
        for bad in [&b""[..], b"{", b"\"session\"", &[b'['; MAX_REQUEST]] {
            let answer = ask(&mut control, &path, bad);
            assert!(answer.starts_with(r#"{"refused":"#), "{answer}");
        }
        assert_eq!(ask(&mut control, &path, &[b' '; MAX_REQUEST + 1]), "");
        assert!(control.connections.is_empty());
    }

    #[test]
    fn those_who_say_nothing_are_crowded_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let mut control = Control::listen(Some(&path));
        let silent: Vec<_> = (0..2 * MAX_CONNECTIONS)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        assert!(ask(&mut control, &path, b"\"sessions\"").contains("sessions"));
        assert!(control.connections.len() < MAX_CONNECTIONS);
        drop(silent);
    }

    #[test]
    fn without_a_folder_there_is_no_socket() {
        let control = Control::listen(Some(Path::new("/nonexistent/control.sock")));
        assert_eq!(control.awaited().count(), 0);
    }
}
