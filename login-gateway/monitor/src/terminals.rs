//! Words of the administrator's on a user's terminals, as wall(1) shows them.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use sys::identity::with_files_of;

/// Longest text that is shown, in characters.
const MAX_TEXT: usize = 4096;

/// Shows `text` on these terminals of the user `uid`, N of `/dev/pts/N`, with that user's rights. One
/// that is stopped with Ctrl-S, or whose user reads nothing, is left out: nobody is waited for.
pub fn show(uid: u32, terminals: impl Iterator<Item = u32>, text: &str) {
    let bytes = on_screen(text);
    for number in terminals {
        let terminal = with_files_of(uid, || {
            OpenOptions::new()
                .write(true)
                .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
                .open(format!("/dev/pts/{number}"))
        });
        if let Err(error) = terminal.and_then(|mut terminal| terminal.write_all(&bytes)) {
            tracing::info!(event = "message.failed", terminal = number, %error);
        }
    }
}

/// The text with a bell, on lines of its own. Control characters could do anything to a terminal.
fn on_screen(text: &str) -> Vec<u8> {
    let clean: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect();
    let lines: Vec<&str> = clean.trim_end().lines().collect();
    // Whatever mode the terminal is in, the next line starts at its left.
    format!("\r\n\x07*** {}\r\n", lines.join("\r\n*** ")).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_marked_and_cannot_move_the_cursor() {
        let shown = on_screen("one\x1b[2J\ntwo\n\n");
        assert_eq!(shown, b"\r\n\x07*** one [2J\r\n*** two\r\n");
        assert!(on_screen(&"x".repeat(1 << 20)).len() < 5000);
    }

    #[test]
    fn a_terminal_shows_it_and_a_full_one_is_not_waited_for() {
        let size = sys::pty::Winsize {
            ws_row: 1,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (master, slave) = sys::pty::open(size).unwrap();
        let path = nix::unistd::ttyname(&slave).unwrap();
        let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        show(me, [number].into_iter(), "hello");
        let mut master = std::fs::File::from(master);
        let mut buffer = [0; 1000];
        let read = master.read(&mut buffer).unwrap();
        let seen = String::from_utf8_lossy(&buffer[..read]);
        assert!(seen.contains("*** hello"), "{seen}");

        // Nobody reads any more: this must come back, however often it is said.
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for _ in 0..100 {
                show(me, [number, u32::MAX].into_iter(), &"x".repeat(4000));
            }
            done.send(()).unwrap();
        });
        finished.recv_timeout(Duration::from_secs(60)).unwrap();
        drop((master, slave));
    }
}
