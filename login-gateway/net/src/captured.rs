//! What a captured process would try, run inside the closed sandbox: a test reads the report. Only
//! in builds with the feature `captured`, never in a shipped program.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, chroot, getppid, setuid};

/// Tries each thing and prints `attempt: refused` or `attempt: DONE`.
pub fn report() {
    let attempts: [(&str, bool); 14] = [
        ("open /", File::open("/").is_ok()),
        ("open /etc/passwd", File::open("/etc/passwd").is_ok()),
        ("open /proc/self/mem", File::open("/proc/self/mem").is_ok()),
        (
            "open host key",
            File::open("/etc/login-gateway/keys/ssh_host_ed25519_key").is_ok(),
        ),
        ("create /x", File::create("/x").is_ok()),
        ("connect tcp", TcpStream::connect("127.0.0.1:22").is_ok()),
        ("listen tcp", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("socket udp", UdpSocket::bind("127.0.0.1:0").is_ok()),
        (
            "connect directoryd",
            UnixStream::connect("/run/directoryd/control.sock").is_ok(),
        ),
        ("run a program", Command::new("/bin/true").status().is_ok()),
        (
            "start a thread",
            std::thread::Builder::new().spawn(|| {}).is_ok(),
        ),
        (
            "signal the monitor",
            kill(getppid(), Signal::SIGCONT).is_ok(),
        ),
        (
            "signal anybody",
            kill(Pid::from_raw(1), Signal::SIGCONT).is_ok(),
        ),
        (
            "become root",
            setuid(Uid::from_raw(0)).is_ok() || chroot("/").is_ok(),
        ),
    ];
    for (attempt, done) in attempts {
        println!("{attempt}: {}", if done { "DONE" } else { "refused" });
    }
}
