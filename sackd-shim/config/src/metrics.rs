//! The signer's metrics over TCP on loopback: it has no network, so its numbers are fetched from its
//! socket and handed on. Nothing is counted here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::crowd::Crowd;
use crate::error::ConfigError;

/// Patience with either side.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Readers at a time. Every local user can be one: silent ones make way.
const AT_A_TIME: usize = 8;
/// Longest request head, in bytes.
const HEAD: usize = 4096;
/// Longest answer of the signer, in bytes.
const ANSWER: u64 = 1 << 20;

/// Serves from a thread of its own.
///
/// # Errors
/// [`ConfigError::System`] if the address cannot be had.
pub fn start(address: SocketAddr, run_dir: &Path) -> Result<(), ConfigError> {
    let doing = || ConfigError::system(format!("serve metrics at '{address}'"));
    let listener = TcpListener::bind(address).map_err(doing())?;
    let signer = run_dir.join("status.socket");
    let work = move || {
        Crowd::new("relay", AT_A_TIME).serve(&listener, move |stream| {
            // Within its deadlines; who goes away early needs nothing.
            let _ = relay(stream, &signer);
        });
    };
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(work)
        .map_err(doing())?;
    tracing::info!(event = "metrics.listening", %address);
    Ok(())
}

fn relay(mut stream: TcpStream, signer: &PathBuf) -> std::io::Result<()> {
    stream.set_write_timeout(Some(TIMEOUT))?;
    let wanted = asks_for_metrics(&mut stream)?;
    if !wanted {
        return stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut socket = UnixStream::connect(signer)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: sackd-shim\r\n\r\n")?;
        let mut answer = Vec::new();
        socket.take(ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) => stream.write_all(&answer),
        Err(_) => stream.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
    }
}

fn asks_for_metrics(stream: &mut TcpStream) -> std::io::Result<bool> {
    let deadline = Instant::now() + TIMEOUT;
    let mut received = Vec::new();
    let mut chunk = [0; 1024];
    while !received.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || received.len() > HEAD {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(received.starts_with(b"GET /metrics "))
}
