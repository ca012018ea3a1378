//! Starts the real program the way the listener does, and plays the listener.

#![allow(clippy::unwrap_used, dead_code)]

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use gateway_wire::Settings;
use gateway_wire::accept::{Endpoints, FromAccept, Health};
use sys::fds::{recv_with_fds, send_with_fds, seqpacket_pair};

/// Longest wait for what must happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A running accept with one SSH and one health socket.
pub struct Accept {
    pub child: Child,
    pub link: Option<OwnedFd>,
    pub ssh: SocketAddr,
    pub health: SocketAddr,
    /// What it was last told.
    told: Cell<Health>,
    _settings: sys::memfd::Shared,
}

/// Settings of a process without root, with headers from `from`.
pub fn settings(from: &[&str], required: bool) -> Settings {
    let mut settings = Settings {
        user: None,
        ..Settings::default()
    };
    settings.proxy_protocol.from = from.iter().map(|net| net.parse().unwrap()).collect();
    settings.proxy_protocol.required = required;
    settings
}

/// Starts it and waits until its sandbox is in place.
pub fn start(settings: &Settings) -> Accept {
    let accept = spawn(settings, None);
    assert_eq!(accept.hear().0, FromAccept::Ready);
    accept
}

/// Starts it; its standard error goes to `stderr` or ours.
pub fn spawn(settings: &Settings, stderr: Option<OwnedFd>) -> Accept {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let bytes = gateway_wire::encode(settings).unwrap();
    let shared = sys::memfd::Shared::new("settings", &bytes).unwrap();
    let listener = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // As the listener does: the kernel's longest queue in place of std's 128.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXCONN).unwrap();
        listener
    };
    let (ssh, health) = (listener(), listener());
    let (ssh_at, health_at) = (ssh.local_addr().unwrap(), health.local_addr().unwrap());
    let spawn = sys::spawn::Spawn::new(Path::new(env!("CARGO_BIN_EXE_login-gateway-accept")))
        .args(["--listeners", "1", "--health", "1"])
        .fd(0, shared.reader().unwrap())
        .fd(3, theirs)
        .fd(4, ssh.into())
        .fd(5, health.into());
    let spawn = match stderr {
        Some(stderr) => spawn.fd(2, stderr),
        None => spawn.inherit_stderr(),
    };
    Accept {
        child: spawn.start().unwrap(),
        link: Some(ours),
        ssh: ssh_at,
        health: health_at,
        told: Cell::default(),
        _settings: shared,
    }
}

impl Accept {
    fn link(&self) -> &OwnedFd {
        self.link.as_ref().unwrap()
    }

    /// The next message and its socket, but for counts.
    pub fn hear(&self) -> (FromAccept, Option<TcpStream>) {
        loop {
            assert!(self.has_spoken(SOON), "nothing came from accept");
            if let Some(heard) = self.receive() {
                return heard;
            }
        }
    }

    /// A message that is there. What it has counted is answered, as the listener does.
    fn receive(&self) -> Option<(FromAccept, Option<TcpStream>)> {
        let mut buffer = [0; 2048];
        let (length, mut fds) = recv_with_fds(self.link(), &mut buffer).unwrap();
        match gateway_wire::decode(&buffer[..length]).unwrap() {
            FromAccept::Counted(counts) => {
                let mut told = self.told.get();
                told.counts.add(&counts);
                self.told.set(told);
                // One that is to retire hears nothing any more.
                let _ = self.send(told);
                None
            }
            message => Some((message, fds.pop().map(TcpStream::from))),
        }
    }

    /// Hears what is there now; the number of connections among it.
    pub fn hear_all(&self) -> usize {
        let mut connections = 0;
        while self.has_spoken(Duration::ZERO) {
            connections += usize::from(self.receive().is_some());
        }
        connections
    }

    /// Waits until the page of numbers has this line, hearing what comes meanwhile.
    pub fn until_counted(&self, line: &str) -> String {
        let end = Instant::now() + SOON;
        loop {
            self.hear_all();
            let page = self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            if page.lines().any(|l| l == line) {
                return page;
            }
            assert!(Instant::now() < end, "{line}: {page}");
        }
    }

    /// The next connection: its endpoints and socket, which is made blocking.
    pub fn connection(&self) -> (Endpoints, TcpStream) {
        let (FromAccept::Connection(endpoints) | FromAccept::Balanced(endpoints, _), Some(stream)) =
            self.hear()
        else {
            panic!("no connection");
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        (endpoints, stream)
    }

    /// Whether a message is there within this time.
    pub fn has_spoken(&self, within: Duration) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let mut fds = [PollFd::new(self.link().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() == 1
    }

    pub fn tell(&self, health: Health) {
        self.told.set(health);
        self.send(health).unwrap();
    }

    fn send(&self, health: Health) -> std::io::Result<()> {
        send_with_fds(self.link(), &gateway_wire::encode(&health).unwrap(), &[])
    }

    /// Ends our writing half: accept is to retire.
    pub fn retire(&self) {
        use std::os::fd::AsRawFd;
        nix::sys::socket::shutdown(self.link().as_raw_fd(), nix::sys::socket::Shutdown::Write)
            .unwrap();
    }

    /// Its exit code, once it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let until = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "accept goes on");
            std::thread::yield_now();
        }
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.ssh)
    }

    /// What the health endpoint answers to these bytes.
    pub fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = connect(self.health);
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is no loss.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }
}

impl Drop for Accept {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Whether the other side has closed without a byte.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// Whether the program still keeps the connection.
pub fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// 192.0.2.7:51234 to 198.51.100.1:22, as HAProxy's `send-proxy-v2` lays it out.
pub fn header() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    bytes.extend([192, 0, 2, 7, 198, 51, 100, 1]);
    bytes.extend(51234u16.to_be_bytes());
    bytes.extend(22u16.to_be_bytes());
    bytes
}
