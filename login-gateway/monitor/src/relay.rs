//! Log lines of net and session on their way to the log. What they write is not trusted: control
//! characters are escaped, lines are cut, floods are dropped and counted.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Longest line that is passed on, in bytes.
const MAX_LINE: usize = 1024;
/// Lines that one process may write in its life.
const MAX_LINES: usize = 1000;

/// The reading end of a process's standard error.
pub struct Relay {
    from: &'static str,
    pipe: Option<File>,
    pending: Vec<u8>,
    lines: usize,
}

impl Relay {
    /// A relay and the descriptor that the process writes to.
    pub fn pipe(from: &'static str) -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let pipe = Some(File::from(OwnedFd::from(reader)));
        Ok((
            Self {
                from,
                pipe,
                pending: Vec::new(),
                lines: 0,
            },
            writer.into(),
        ))
    }

    /// The descriptor to wait for; `None` after its end.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Passes on what has arrived.
    pub fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.take(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.pipe = None,
            }
        }
        if !self.pending.is_empty() {
            self.take(b"\n");
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.pending);
                self.lines += 1;
                match self.lines {
                    ..MAX_LINES => pass_on(self.from, &line),
                    MAX_LINES => tracing::warn!(event = "log.flood", from = self.from),
                    _ => {}
                }
            } else if self.pending.len() < MAX_LINE {
                self.pending.push(*byte);
            }
        }
    }
}

fn pass_on(from: &'static str, line: &[u8]) {
    let text = escape(line);
    let (level, text) = text.split_once(": ").unwrap_or(("", &text));
    match level {
        "error" => tracing::error!(from, "{text}"),
        "warn" => tracing::warn!(from, "{text}"),
        "info" => tracing::info!(from, "{text}"),
        "" => tracing::warn!(from, "{text}"),
        other => tracing::warn!(from, "{other}: {text}"),
    }
}

fn escape(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .flat_map(|c| {
            let (plain, escaped) = if c.is_control() {
                (None, Some(c.escape_default()))
            } else {
                (Some(c), None)
            };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_forge_another() {
        assert_eq!(
            escape(b"warn: a\rb\x1b[2Jc\xff"),
            "warn: a\\rb\\u{1b}[2Jc\u{fffd}"
        );
    }

    #[test]
    fn floods_and_long_lines_are_bounded() {
        let (mut relay, _writer) = Relay::pipe("net").unwrap();
        relay.take(&vec![b'x'; 10 * MAX_LINE]);
        assert_eq!(relay.pending.len(), MAX_LINE);
        relay.take(&b"\n".repeat(5 * MAX_LINES));
        assert_eq!(relay.lines, 5 * MAX_LINES);
        assert!(relay.pending.is_empty());
    }
}
