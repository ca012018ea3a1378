//! A terminal's recording: what the user saw, as asciicast version 2
//! (<https://docs.asciinema.org/manual/asciicast/v2/>). The monitor has opened the file, for appending
//! alone; what is typed and not shown, such as a password, is not in it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gateway_wire::session::{Pty, WindowSize};
use serde_json::json;

/// A recording that is being made.
pub struct Recording(Mutex<Open>);

struct Open {
    file: File,
    start: Instant,
    /// The beginning of a character whose end has not come yet.
    partial: Vec<u8>,
}

impl Recording {
    /// Writes the first line.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn begin(file: OwnedFd, pty: &Pty) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let head = json!({
            "version": 2,
            "width": pty.size.columns,
            "height": pty.size.rows,
            "timestamp": now.unwrap_or_default().as_secs(),
            "env": { "TERM": pty.term },
        });
        let mut file = File::from(file);
        file.write_all(format!("{head}\n").as_bytes())?;
        Ok(Self(Mutex::new(Open {
            file,
            start: Instant::now(),
            partial: Vec::new(),
        })))
    }

    /// Adds what is shown.
    ///
    /// # Errors
    /// Those of `write(2)`: the disk may be full.
    pub fn output(&self, data: &[u8]) -> io::Result<()> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.partial.extend_from_slice(data);
        let text = take_text(&mut open.partial);
        if text.is_empty() {
            return Ok(());
        }
        open.add("o", &text)
    }

    /// Adds a new size of the terminal. A write that fails is noticed at the next output.
    pub fn resized(&self, size: WindowSize) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = open.add("r", &format!("{}x{}", size.columns, size.rows));
    }
}

impl Open {
    fn add(&mut self, kind: &str, text: &str) -> io::Result<()> {
        let micros = self.start.elapsed().as_micros() as f64;
        let line = json!([micros / 1e6, kind, text]);
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            let rest = String::from_utf8_lossy(&self.partial).into_owned();
            let _ = self.add("o", &rest);
        }
    }
}

/// Takes all whole characters; bytes that are none become U+FFFD, as the format is text.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = bytes.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(whole) => {
                text.push_str(whole);
                rest = &[];
                break;
            }
            Err(error) => {
                let (whole, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(whole));
                match error.error_len() {
                    Some(length) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &after[length..];
                    }
                    // The next bytes may complete it.
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        }
    }
    let rest = rest.to_vec();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pty() -> Pty {
        Pty {
            term: "xterm\"".into(),
            size: WindowSize {
                columns: 80,
                rows: 24,
                ..WindowSize::default()
            },
            modes: Vec::new(),
        }
    }

    #[test]
    fn every_line_is_json_and_the_text_is_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shown = "ä\r\n\u{1b}[1m\"😀\\".repeat(100);
        {
            let fd = file.reopen().unwrap().into();
            let recording = Recording::begin(fd, &pty()).unwrap();
            for piece in shown.as_bytes().chunks(3) {
                recording.output(piece).unwrap();
            }
            recording.resized(WindowSize {
                columns: 100,
                rows: 30,
                ..WindowSize::default()
            });
            recording.output(b"bad \xff\xfe good").unwrap();
            recording.output("ä".as_bytes().split_at(1).0).unwrap();
        }
        let text = std::fs::read_to_string(file.path()).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let head = lines.next().unwrap();
        assert_eq!(
            (&head["width"], &head["env"]["TERM"]),
            (&json!(80), &json!("xterm\""))
        );
        let events: Vec<_> = lines.collect();
        let times: Vec<f64> = events
            .iter()
            .map(|event| event[0].as_f64().unwrap())
            .collect();
        assert!(times.is_sorted());
        let of = |kind: &str| -> Vec<String> {
            let kind = events.iter().filter(|event| event[1] == kind);
            kind.map(|event| event[2].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            of("o").concat(),
            shown + "bad \u{fffd}\u{fffd} good\u{fffd}"
        );
        assert_eq!(of("r"), ["100x30"]);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert!(Recording::begin(full.into(), &pty()).is_err());
    }
}
