//! Peers on this machine that the cases need: servers that echo or stall, clients that run beside a
//! case and end with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tests::SOON;

/// Waits for a condition.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A TCP server that sends back what it reads, until the other side has ended; then it ends.
pub fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream)
            });
        }
    });
    address
}

/// A port that leads to another over a line on which everything takes this long, in each direction.
pub fn delayed(port: u16, one_way: Duration) -> u16 {
    fn carry(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
        let (sender, line) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            for (due, bytes) in line {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    return;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        std::thread::spawn(move || {
            let mut piece = vec![0; 256 << 10];
            while let Ok(n @ 1..) = from.read(&mut piece) {
                let due = Instant::now() + one_way;
                if sender.send((due, piece[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for end in [&stream, &far] {
                end.set_nodelay(true).unwrap();
            }
            carry(
                stream.try_clone().unwrap(),
                far.try_clone().unwrap(),
                one_way,
            );
            carry(far, stream, one_way);
        }
    });
    near
}

/// [`echo`] on a Unix socket, which everybody may use.
pub fn echo_unix(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream)
            });
        }
    });
}

/// Says a word through a stream, ends its side, and returns all that came back.
pub trait Echoes: Read + Write {
    /// No more is written.
    fn end(&self);

    /// What came back.
    #[track_caller]
    fn echoed(&mut self, word: &[u8]) -> Vec<u8> {
        self.write_all(word).unwrap();
        self.end();
        let mut back = Vec::new();
        self.read_to_end(&mut back).unwrap();
        back
    }
}

impl Echoes for TcpStream {
    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl Echoes for UnixStream {
    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// A stream to this port as soon as somebody listens.
#[track_caller]
pub fn connected(port: u16) -> TcpStream {
    let end = Instant::now() + SOON;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(SOON)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < end, "nobody listens on {port}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The next connection of a listener.
#[track_caller]
pub fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    until("a connection", || {
        stream = listener.accept().ok();
        stream.is_some()
    });
    let (stream, _) = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// A program beside the case; it is killed when this is dropped.
pub struct Beside {
    pub child: Child,
    pub input: Option<ChildStdin>,
    pub output: Option<ChildStdout>,
}

impl Beside {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: child.stdout.take(),
            child,
        }
    }

    /// The next line of its output, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            let n = self.output.as_mut().unwrap().read(&mut byte).unwrap();
            if n == 0 || byte[0] == b'\n' {
                assert!(n > 0 || !line.is_empty(), "it ended: {}", self.complaint());
                return String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            line.push(byte[0]);
        }
    }

    pub fn say(&mut self, text: &str) {
        self.input
            .as_mut()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    /// Ends its input and waits; the exit code.
    #[track_caller]
    pub fn end(&mut self) -> Option<i32> {
        self.input = None;
        self.wait()
    }

    /// Waits while its input stays open; the exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        until("the end of a program", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap().code()
    }

    /// Ends it as a lost machine would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        let _ = self.child.kill();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.kill();
    }
}
