//! The signer's own numbers on `status.socket`, for root and SlurmUser: a word of HTTP, enough for
//! Prometheus over a Unix socket, `curl --unix-socket` and `sackd-shim status`.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use service::{Exit, Failure};

use crate::ask::{ask, exchange};
use crate::config::Settings;
use crate::error::ShimError;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::signer::unix_now;

/// Name of the socket in the default cluster's run directory.
pub const NAME: &str = "status.socket";
/// For SlurmUser, and root.
const MODE: u32 = 0o600;
/// Patience with a reader.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Patience with the service: it may have several slow readers before us.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is asked for a person.
const REQUEST: &[u8] = b"GET /status HTTP/1.1\r\nHost: sackd-shim\r\n\r\n";
/// What to do about what it lacks.
pub const RESTART: &str = "start the service again: it cannot bring that back by itself";
/// Longest request head.
const HEAD: usize = 4096;
/// Longest reply that is read.
const REPLY: u64 = 1 << 20;

/// Makes the socket.
///
/// # Errors
/// [`ShimError::System`].
pub fn listen(run_dir: &Path) -> Result<UnixListener, ShimError> {
    let path = run_dir.join(NAME);
    let doing = format!("listen on '{}'", path.display());
    sys::listen::unix_stream(&path, MODE).map_err(ShimError::system(doing))
}

/// Serves the numbers from a thread of its own; call before the filter, which forbids new threads.
/// Comes back when that thread runs: what libc does once per thread is over by then.
///
/// # Errors
/// [`ShimError::System`].
pub fn start(listener: UnixListener, metrics: Metrics) -> Result<(), ShimError> {
    let running = Arc::new(Barrier::new(2));
    let started = Arc::clone(&running);
    std::thread::Builder::new()
        .name("status".to_owned())
        .spawn(move || {
            started.wait();
            serve(&listener, &metrics);
        })
        .map_err(ShimError::system("start the status thread"))?;
    running.wait();
    Ok(())
}

fn serve(listener: &UnixListener, metrics: &Metrics) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                // A reader that went away needs no answer.
                let _ = answer(stream, metrics);
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn answer(mut stream: UnixStream, metrics: &Metrics) -> std::io::Result<()> {
    let head = head(&mut stream)?;
    let (code, kind, body) = match head.split(' ').nth(1) {
        Some("/metrics") => (
            "200 OK",
            "text/plain; version=0.0.4",
            metrics.prometheus(unix_now()),
        ),
        Some("/status") => ("200 OK", "application/json", metrics.json().to_string()),
        _ => (
            "404 Not Found",
            "text/plain",
            "/metrics, /status\n".to_owned(),
        ),
    };
    let length = body.len();
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The request up to its empty line, all of it within one deadline.
fn head(stream: &mut UnixStream) -> std::io::Result<String> {
    let deadline = Instant::now() + TIMEOUT;
    let mut received = Vec::new();
    let mut chunk = [0; 1024];
    while !received.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || received.len() > HEAD {
            return Err(ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&received).into_owned())
}

/// `sackd-shim status`: what the running signer says of itself.
///
/// # Errors
/// [`Failure`] if there is none that answers, or if it lacks what only a restart brings back: so whoever asks
/// to know whether it is alive starts it anew.
pub fn run(options: &Options, json: bool) -> Result<(), Failure> {
    let settings = Settings::load(options).map_err(|e| ShimError::first_of(e).into_failure())?;
    let path = settings.main().run_dir.join(NAME);
    let reply = ask(&path, REQUEST, PATIENCE, REPLY)?;
    let reply = String::from_utf8_lossy(&reply);
    let text = match body(&reply) {
        Some(body) => body,
        None => {
            let words = format!("'{}' is served by something else", path.display());
            let hint = "is another program in this run directory? ss -xlp tells which";
            return Err(Failure::new(Exit::Failure, words).hint(hint));
        }
    };
    let value: serde_json::Value = serde_json::from_str(text)?;
    if json {
        println!("{text}");
    } else {
        print!("{}", table(&value));
    }
    match missing(&value) {
        None => Ok(()),
        Some(words) => Err(Failure::new(Exit::Failure, words).hint(RESTART)),
    }
}

/// What the running service lacks, for "check"; `None` as well if there is none that answers.
pub fn lacks(settings: &Settings) -> Option<String> {
    let path = settings.main().run_dir.join(NAME);
    let reply = exchange(&path, REQUEST, PATIENCE, REPLY).ok()?;
    missing(&serde_json::from_str(body(&String::from_utf8_lossy(&reply))?).ok()?)
}

fn body(reply: &str) -> Option<&str> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then_some(body)
}

/// What a restart alone brings back.
fn missing(value: &serde_json::Value) -> Option<String> {
    let clusters = value["clusters"].as_array()?;
    clusters.iter().find_map(|cluster| {
        let name = cluster["cluster"].as_str().unwrap_or("-");
        if cluster["config_runs"] == false {
            return Some(format!(
                "cluster '{name}': sackd-shim-config has ended, the configuration is no longer kept"
            ));
        }
        let socket = cluster["socket"].as_str().unwrap_or("-");
        (cluster["socket_is_there"] == false)
            .then(|| format!("cluster '{name}': the socket file '{socket}' was removed"))
    })
}

/// For people: a line for each thing, objects inside by indentation.
fn table(value: &serde_json::Value) -> String {
    fn lines(value: &serde_json::Value, indent: usize, text: &mut String) {
        use serde_json::Value;
        use std::fmt::Write as _;
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            let _ = match value {
                Value::Object(_) => {
                    let done = writeln!(text, "{:indent$}{name}", "");
                    lines(value, indent + 2, text);
                    done
                }
                Value::Array(list) if list.iter().all(Value::is_object) => {
                    for value in list {
                        let _ = writeln!(text, "{:indent$}{name}", "");
                        lines(value, indent + 2, text);
                    }
                    Ok(())
                }
                Value::Null => writeln!(text, "{:indent$}{name:<22} -", ""),
                Value::String(word) => writeln!(text, "{:indent$}{name:<22} {word}", ""),
                other => writeln!(text, "{:indent$}{name:<22} {other}", ""),
            };
        }
    }
    let mut text = String::new();
    lines(value, 0, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_every_field() {
        let value = serde_json::json!({"pid": 7, "clusters": [{"cluster": "lab", "kid": null}]});
        let text = table(&value);
        for words in ["pid", "7", "  cluster ", "lab", "  kid"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
