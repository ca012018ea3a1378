//! A program on a terminal of ours, driven as a person would: type, look, resize.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::pty::Winsize;
use sys::spawn::Spawn;

/// How long a screen may take to show what is expected.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running program and everything it has written so far.
pub struct Terminal {
    master: OwnedFd,
    child: Child,
    seen: String,
    /// Start of what was not yet matched by `expect`.
    from: usize,
}

impl Terminal {
    /// Starts the program on a terminal of 24 rows and 80 columns.
    pub fn start(command: &Command) -> Self {
        let (master, slave) = sys::pty::open(size(24, 80)).expect("open a pty");
        let program = which(command.get_program().to_str().expect("a name"));
        let (out, err) = (
            slave.try_clone().expect("dup"),
            slave.try_clone().expect("dup"),
        );
        let child = Spawn::new(Path::new(&program))
            .args(command.get_args())
            .env([
                ("TERM".into(), "xterm-256color".into()),
                ("HOME".into(), "/nonexistent".into()),
            ])
            .fd(0, slave)
            .fd(1, out)
            .fd(2, err)
            .new_terminal_session()
            .start()
            .expect("start a program");
        Self {
            master,
            child,
            seen: String::new(),
            from: 0,
        }
    }

    /// Types; `\r` is the return key.
    pub fn send(&mut self, keys: &str) {
        let mut bytes = keys.as_bytes();
        while !bytes.is_empty() {
            let n = nix::unistd::write(&self.master, bytes).expect("type");
            bytes = &bytes[n..];
        }
    }

    /// Waits until the program has written `text` after what was expected before.
    ///
    /// # Panics
    /// If it does not within 40 s, or ends.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.from..].find(text) {
                self.from += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited for {text:?}, saw {:?}",
                &self.seen[self.from..]
            );
            assert!(
                self.read(left),
                "ended before {text:?}, saw {:?}",
                &self.seen[self.from..]
            );
        }
    }

    /// Waits for `text` as [`Terminal::expect`] does; what was shown before it.
    #[track_caller]
    pub fn until_seen(&mut self, text: &str) -> String {
        let from = self.from;
        self.expect(text);
        self.seen[from..self.from - text.len()].to_owned()
    }

    /// Gives the window another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        sys::pty::resize(&self.master, size(rows, columns)).expect("resize");
    }

    /// Waits for the end of the program; its exit code.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while self.read(deadline.saturating_duration_since(Instant::now())) {}
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        panic!("the program goes on; it has said {:?}", self.seen);
    }

    /// Closes the terminal, as a closed window does.
    pub fn hang_up(self) -> io::Result<()> {
        let Self {
            master, mut child, ..
        } = self;
        drop(master);
        child.wait().map(drop)
    }

    fn read(&mut self, limit: Duration) -> bool {
        let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit.as_millis()).unwrap_or(PollTimeout::MAX);
        if poll(&mut ready, limit).unwrap_or(0) == 0 {
            return false;
        }
        let mut buffer = [0; 8192];
        match nix::unistd::read(&self.master, &mut buffer) {
            Ok(n @ 1..) => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
                true
            }
            _ => false,
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn which(name: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .map(|dir| format!("{dir}/{name}"))
        .find(|p| Path::new(p).exists());
    found.unwrap_or_else(|| name.to_owned())
}
