//! A crowd at the door: a balancer that tells where it comes from, people at work behind it, and strangers who
//! send garbage or nothing. What becomes of them is told by the gateway's own numbers, not here.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use super::{SOON, until};

/// haproxy in front of a gateway, which it tells each client's address.
pub struct Balancer {
    child: Child,
    pub port: u16,
}

impl Balancer {
    /// Listens, and passes on to this address; its configuration is written into `folder`.
    pub fn start(folder: &Path, to: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let file = folder.join("haproxy.cfg");
        let text = format!(
            "global\n maxconn 6000\ndefaults\n mode tcp\n timeout connect 10s\n timeout client 10m\n timeout server 10m\n\
             listen ssh\n bind 127.0.0.1:{port}\n server gateway {to} send-proxy-v2\n"
        );
        fs::write(&file, text).unwrap();
        let child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("haproxy listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, port }
    }

    /// A connection from this address.
    pub fn connect(&self, source: Ipv4Addr) -> TcpStream {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        bind(
            fd.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source, 0)),
        )
        .unwrap();
        let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port));
        connect(fd.as_raw_fd(), &to).unwrap();
        let stream = TcpStream::from(fd);
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody at work in a terminal.
pub struct Worker {
    pub child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    done: u32,
}

impl Worker {
    /// `ssh` is all but the command, with -tt.
    pub fn start(mut ssh: Command) -> Self {
        ssh.arg("stty -echo; echo ready; while read n; do echo $((n + 1)); done");
        ssh.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = ssh.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut worker = Self {
            child,
            input,
            output: BufReader::new(output),
            done: 0,
        };
        assert_eq!(worker.line(), "ready");
        worker
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Types a line and reads the answer.
    pub fn works(&mut self) {
        writeln!(self.input, "{}", self.done).unwrap();
        self.done += 1;
        assert_eq!(self.line(), self.done.to_string());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two hundred strangers from seven sources, half of whom say nothing. They stay as long as the result.
pub fn two_hundred_strangers(balancer: &Balancer) -> Vec<TcpStream> {
    let strangers = (0..200_u8).map(|n| {
        let mut stranger = balancer.connect(Ipv4Addr::new(127, 0, 8, n % 7));
        let _ = match n % 4 {
            0 => stranger.write_all(b"GET / HTTP/1.1\r\nHost: login\r\n\r\n"),
            1 => stranger
                .write_all(b"SSH-2.0-x\r\n\0\0\xff\xff\x10\x14AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            _ => Ok(()),
        };
        stranger
    });
    strangers.collect()
}
