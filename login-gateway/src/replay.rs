//! `login-gateway replay FILE`: shows a recording as its user saw it, or checks that it is whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use gateway_wire::digest;
use serde::Deserialize;
use service::{Exit, Failure};

use crate::arguments::Replay;

/// Longest line that is read, in bytes: a read of 64 KiB from the terminal, each byte escaped.
const MAX_LINE: u64 = 1 << 20;

/// The first line; other keys are for other players.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// Plays it to standard output.
pub fn run(options: &Replay) -> Result<(), Failure> {
    let path = &options.file;
    if let Some(expected) = &options.sha256 {
        let (_, found) = digest::of(open(path)?)?;
        if !found.eq_ignore_ascii_case(expected) {
            let cause = format!(
                "'{}' is not the file of the record: it has {found}",
                path.display()
            );
            return Err(Failure::new(Exit::Failure, cause)
                .hint("the record is the recording.closed line of the audit log"));
        }
    }
    let mut lines = BufReader::new(open(path)?);
    let broken = |number: usize, why: &str| {
        let cause = format!("'{}', line {number}: {why}", path.display());
        Failure::new(Exit::Failure, cause).hint("what comes before it was shown")
    };
    let head = line(&mut lines)?.ok_or_else(|| broken(1, "empty"))?;
    match serde_json::from_slice::<Head>(&head) {
        Ok(head) if head.version == 2 => {}
        _ => return Err(broken(1, "not a recording (asciicast version 2)")),
    }
    let mut out = io::stdout();
    let mut last = 0.0;
    let mut number = 1;
    while let Some(event) = line(&mut lines)? {
        number += 1;
        let event: (f64, String, String) =
            serde_json::from_slice(&event).map_err(|error| broken(number, &error.to_string()))?;
        let (time, kind, text) = event;
        if kind != "o" {
            continue;
        }
        if !options.instant {
            let pause = ((time - last).max(0.0) / options.speed).min(options.idle.as_secs_f64());
            std::thread::sleep(Duration::from_secs_f64(pause));
        }
        last = time;
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Failure,
        };
        Failure::new(exit, format!("open '{}': {error}", path.display()))
    })
}

/// The next line without its end; a last one without an end was cut off and counts.
fn line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}
