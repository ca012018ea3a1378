//! What a captured process would try, tried from inside the sandbox. Only in a test build: the
//! report goes to the log, then the process serves. The test wants each line to say `refused`.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Tries everything and says how it went.
pub fn report() {
    let loopback = "127.0.0.1:1";
    let tried: [(&str, io::Result<()>); 9] = [
        ("open /", File::open("/").map(drop)),
        ("open /etc/passwd", File::open("/etc/passwd").map(drop)),
        ("create a file", File::create("/dev/shm/captured").map(drop)),
        ("list /", std::fs::read_dir("/").map(drop)),
        ("connect", TcpStream::connect(loopback).map(drop)),
        ("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("send a datagram", UdpSocket::bind("127.0.0.1:0").map(drop)),
        (
            "reach the directory",
            UnixStream::connect("/run/nscd/socket").map(drop),
        ),
        (
            "start a program",
            Command::new("/bin/true").spawn().map(drop),
        ),
    ];
    for (what, result) in tried {
        let verdict = match result {
            // Not «no such file»: that would say only that the root folder is empty.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "refused",
            Err(_) => "failed otherwise",
            Ok(()) => "POSSIBLE",
        };
        eprintln!("captured: {what}: {verdict}");
    }
}
