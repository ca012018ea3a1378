//! The question on a new terminal whether to go back to a shell that is kept.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::clock::{span, to_the_minute};

use super::{FromKeeper, Kept, connect_to, names, now, receive};

/// Shells that are offered at one time.
const MOST: usize = 9;
/// Sockets that are tried; names are anybody's to take, so there may be many that are not ours.
const TRIED: usize = 4096;
/// Patience with a keeper.
const HELLO: Duration = Duration::from_secs(1);
/// Patience with the user; then there is a new shell.
const ANSWER: Duration = Duration::from_secs(60);

/// What the user wants.
pub enum Answer {
    /// A new shell, which gets to read what was typed and is no answer: a script that is fed to the
    /// terminal knows of no question.
    New(String),
    /// One that is kept, by its keeper's socket.
    Back(OwnedFd),
}

/// Asks, if there is something to offer.
pub fn ask() -> Answer {
    let mut all = find();
    if all.is_empty() {
        return Answer::New(String::new());
    }
    // The one that was left last comes first, those that somebody looks at come last.
    all.sort_by_key(|(kept, _)| std::cmp::Reverse((kept.detached, kept.begun)));
    all.truncate(MOST);
    let kept: Vec<&Kept> = all.iter().map(|(kept, _)| kept).collect();
    let question = question(&kept, now());
    let mut out = io::stdout();
    let _ = out
        .write_all(question.as_bytes())
        .and_then(|()| out.flush());
    let Some(line) = line(Instant::now() + ANSWER) else {
        return Answer::New(String::new());
    };
    match choice(&line, &kept) {
        Choice::New => Answer::New(String::new()),
        Choice::Kept(at) => Answer::Back(all.swap_remove(at).1),
        Choice::Unknown => Answer::New(line + "\n"),
    }
}

/// Keepers of this user that answer.
fn find() -> Vec<(Kept, OwnedFd)> {
    let end = Instant::now() + HELLO;
    let sockets = names().into_iter().take(TRIED);
    let sockets = sockets.filter_map(|name| connect_to(&name).ok());
    let sockets: Vec<OwnedFd> = sockets.collect();
    let answer = |socket: OwnedFd| {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], left).ok()?;
        match receive(&socket) {
            Ok(Some((FromKeeper::Kept(kept), _))) => Some((kept, socket)),
            _ => None,
        }
    };
    sockets.into_iter().filter_map(answer).collect()
}

fn question(all: &[&Kept], now: u64) -> String {
    let mut text = String::from("Shells of yours that are still there:\n");
    for (at, kept) in all.iter().enumerate() {
        let number = at + 1;
        let state = match kept.detached {
            Some(since) => format!("left {} ago", span(now.saturating_sub(since))),
            None => "shown elsewhere, to be taken over".to_owned(),
        };
        let (begun, source) = (to_the_minute(kept.begun), &kept.source);
        text += &format!("  {number}  begun {begun}, from {source}, {state}\n");
    }
    let first = all.first().is_some_and(|kept| kept.detached.is_some());
    text += if first {
        "Enter goes back to the first, a number to that one, n begins a new one: "
    } else {
        "A number goes to that one, Enter or n begins a new one: "
    };
    text
}

#[derive(Debug, PartialEq)]
enum Choice {
    New,
    Kept(usize),
    Unknown,
}

fn choice(line: &str, all: &[&Kept]) -> Choice {
    let number = |text: &str| text.parse().ok().filter(|n| (1..=all.len()).contains(n));
    match line.trim() {
        "" if all.first().is_some_and(|kept| kept.detached.is_some()) => Choice::Kept(0),
        "" | "n" | "N" => Choice::New,
        text => number(text).map_or(Choice::Unknown, |n| Choice::Kept(n - 1)),
    }
}

/// A line from the terminal, `None` if there is none until `end`.
fn line(end: Instant) -> Option<String> {
    let mut line = Vec::new();
    let terminal = io::stdin();
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut ready, left).is_ok_and(|n| n > 0) {
            return None;
        }
        // Not by a buffer: what is typed behind the line is the shell's.
        let mut byte = [0];
        match nix::unistd::read(&terminal, &mut byte) {
            Ok(0) | Err(_) => return None,
            Ok(_) if byte == *b"\n" || line.len() > 256 => {
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            Ok(_) => line.push(byte[0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_what_answers_mean() {
        let kept = |detached| Kept {
            begun: 1_000_000_000,
            detached,
            source: "192.0.2.7".into(),
        };
        let (left, shown) = (kept(Some(100)), kept(None));
        let text = question(&[&left, &shown], 400);
        assert!(
            text.contains("1  begun 2001-09-0") && text.contains("left 5m ago"),
            "{text}"
        );
        assert!(
            text.contains("shown elsewhere") && text.contains("Enter goes back"),
            "{text}"
        );
        for (line, expected) in [
            ("", Choice::Kept(0)),
            (" 2 ", Choice::Kept(1)),
            ("3", Choice::Unknown),
            ("0", Choice::Unknown),
            ("ls", Choice::Unknown),
            ("n", Choice::New),
        ] {
            assert_eq!(choice(line, &[&left, &shown]), expected, "{line}");
        }
        // What somebody looks at is taken over by number alone.
        assert_eq!(choice("", &[&shown]), Choice::New);
        assert!(question(&[&shown], 400).contains("Enter or n begins"));
    }
}
