//! For those who watch the daemon: `/metrics`, `/readyz` and `/healthz` by HTTP on loopback or a Unix
//! socket, and whether users resolve, tried the way libc does it.

use std::{
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use directory_client::Status;
use directory_map::{
    protocol::{Query, encode_request},
    record::Passwd,
};

use crate::{config::Listen, core::Core};

/// How long a look-up over our own socket may take, and how long one who asks here.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest request, in bytes.
const MAX_REQUEST: usize = 8 << 10;
/// Longest record of a user, in bytes.
const MAX_RECORD: u64 = 64 << 10;

/// The status with a look-up made for it.
pub fn status(core: &Core) -> Status {
    Status {
        resolves: resolves(core).unwrap_or(false),
        ..core.status()
    }
}

/// Whether all of a domain is held, or with an empty name all of all.
fn is_complete(status: &Status, domain: &str) -> bool {
    let mut named = status.domains.iter().filter(|one| one.name == domain);
    match domain {
        "" => status.complete,
        _ => named.any(|one| one.complete),
    }
}

/// Whether a user is found over the socket that libc asks: one of the directory, if there are any.
fn resolves(core: &Core) -> io::Result<bool> {
    let Some(name) = core.any_user() else {
        return Ok(false);
    };
    let mut stream = UnixStream::connect(&core.config.nscd_socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let kind = i32::from(Query::UserByName.number());
    stream.write_all(&encode_request(kind, name.as_bytes()))?;
    let mut record = Vec::new();
    stream.take(MAX_RECORD).read_to_end(&mut record)?;
    Ok(Passwd::decode(&record).is_some_and(|user| user.name == name))
}

/// Listens, and answers on a thread of its own.
///
/// # Errors
/// If that place cannot be had.
pub fn start(listen: &Listen, core: Arc<Core>) -> io::Result<()> {
    let builder = thread::Builder::new().name("metrics".into());
    match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address)?;
            builder.spawn(move || {
                loop {
                    let accepted = listener.accept().and_then(|(stream, _)| {
                        stream.set_read_timeout(Some(PATIENCE))?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        Ok(stream)
                    });
                    serve(accepted, &core);
                }
            })
        }
        Listen::Unix(path) => {
            let listener: UnixListener = sys::listen::unix_stream(path, 0o666)?;
            builder.spawn(move || {
                loop {
                    let accepted = listener.accept().and_then(|(stream, _)| {
                        stream.set_read_timeout(Some(PATIENCE))?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        Ok(stream)
                    });
                    serve(accepted, &core);
                }
            })
        }
    }
    .map(drop)
}

/// One request; who is slow or talks of something else is left.
fn serve(accepted: io::Result<impl Read + Write>, core: &Core) {
    let Ok(mut stream) = accepted else {
        // Out of descriptors: it would come back at once.
        thread::sleep(Duration::from_millis(20));
        return;
    };
    let deadline = Instant::now() + PATIENCE;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(size) if size > 0 && Instant::now() < deadline && request.len() < MAX_REQUEST => {
                request.extend_from_slice(&buffer[..size]);
            }
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&request);
    let mut words = head.split_ascii_whitespace();
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (code, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", core.numbers.text(&status(core))),
        ("GET" | "HEAD", path) if path == "/readyz" || path.starts_with("/readyz/") => {
            let status = status(core);
            let named = path.strip_prefix("/readyz/").unwrap_or_default();
            match (is_complete(&status, named), status.resolves) {
                (true, true) => ("200 OK", "users resolve\n".to_owned()),
                (false, _) => (
                    "503 Service Unavailable",
                    "the directory has not been read\n".to_owned(),
                ),
                (true, false) => (
                    "503 Service Unavailable",
                    "users do not resolve\n".to_owned(),
                ),
            }
        }
        // A stalled daemon ends itself; who answers lives.
        ("GET" | "HEAD", "/healthz") => ("200 OK", "ok\n".to_owned()),
        ("GET" | "HEAD", _) => ("404 Not Found", String::new()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if method == "HEAD" { "" } else { &body };
    // One who has gone is no error.
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
}
