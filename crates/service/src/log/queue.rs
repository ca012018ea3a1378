//! Log lines on their way to stderr: a thread of their own writes them, so that who logs does not wait
//! for who reads, and many lines leave with one call. What a line says is not known here.

use std::io::{self, Write};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes that wait. Above it who logs waits as well, rather than that a line is lost.
const ROOM: usize = 1 << 20;
/// Lines of this long leave together.
const GATHERED: Duration = Duration::from_millis(2);
/// Most bytes of a call, unless one line is longer: what a pipe takes whole, so that lines of several
/// processes do not run into each other (`PIPE_BUF`, pipe(7)).
const WHOLE: usize = 4096;
/// How long the end of the program waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(2);

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Where log lines go: to stderr, or into the queue once there is one.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(queue) = QUEUE.get() else {
            return io::stderr().write(line);
        };
        queue.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread; lines logged from here on are its. Comes back when it runs.
pub(super) fn start() -> io::Result<()> {
    let running = Arc::new(Barrier::new(2));
    let started = Arc::clone(&running);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            started.wait();
            QUEUE.get_or_init(Queue::default).write(&mut io::stderr());
        })?;
    running.wait();
    QUEUE.get_or_init(Queue::default);
    Ok(())
}

/// Waits until all lines are written, or patience is over.
pub(super) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.wait_until_empty(PATIENCE);
    }
}

#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    /// Lines that were taken and are not written yet.
    on_their_way: bool,
}

#[derive(Default)]
struct Queue {
    lines: Mutex<Lines>,
    filled: Condvar,
    emptied: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Bytes have no state that a panic could leave half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut lines = self.lock();
        while !lines.waiting.is_empty() && lines.waiting.len() + line.len() > ROOM {
            let emptied = self.emptied.wait(lines);
            lines = emptied.unwrap_or_else(PoisonError::into_inner);
        }
        let first = lines.waiting.is_empty();
        lines.waiting.extend_from_slice(line);
        drop(lines);
        // Whoever fills it wakes the thread; for the next lines it is awake.
        if first {
            self.filled.notify_one();
        }
    }

    /// Writes for ever. An error is nobody's to hear.
    fn write(&self, to: &mut impl Write) {
        let mut taken = Vec::new();
        loop {
            let mut lines = self.lock();
            while lines.waiting.is_empty() {
                let filled = self.filled.wait(lines);
                lines = filled.unwrap_or_else(PoisonError::into_inner);
            }
            drop(lines);
            std::thread::sleep(GATHERED);
            let mut lines = self.lock();
            std::mem::swap(&mut lines.waiting, &mut taken);
            lines.on_their_way = true;
            drop(lines);
            self.emptied.notify_all();
            for whole in whole_lines(&taken) {
                let _ = to.write_all(whole);
            }
            taken.clear();
            self.lock().on_their_way = false;
            self.emptied.notify_all();
        }
    }

    fn wait_until_empty(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut lines = self.lock();
        while !lines.waiting.is_empty() || lines.on_their_way {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let emptied = self.emptied.wait_timeout(lines, left);
            lines = emptied.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Parts that end with a line, each as long as [`WHOLE`] permits.
fn whole_lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let is_end = |byte: &u8| *byte == b'\n';
        let fits = &text[..text.len().min(WHOLE)];
        let end = match fits.iter().rposition(is_end) {
            Some(last) => last + 1,
            None => text.iter().position(is_end).map_or(text.len(), |at| at + 1),
        };
        let (part, rest) = text.split_at(end);
        text = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_with_lines_and_nothing_is_lost() {
        let line = |length: usize| [vec![b'x'; length - 1], vec![b'\n']].concat();
        for (lengths, parts) in [
            (&[][..], &[][..]),
            (&[10], &[10]),
            (&[WHOLE], &[WHOLE]),
            (&[WHOLE - 1, 2], &[WHOLE - 1, 2]),
            (&[1, 2 * WHOLE, 3], &[1, 2 * WHOLE, 3]),
            (&[3000, 1000, 96, 1], &[4096, 1]),
        ] {
            let text: Vec<u8> = lengths.iter().flat_map(|length| line(*length)).collect();
            let all: Vec<&[u8]> = whole_lines(&text).collect();
            let found: Vec<usize> = all.iter().map(|part| part.len()).collect();
            assert_eq!(found, parts, "{lengths:?}");
            assert_eq!(all.concat(), text);
        }
        let cut: Vec<&[u8]> = whole_lines(b"no end").collect();
        assert_eq!(cut, [b"no end"]);
    }

    /// A reader that stands still makes the writers wait once the queue is full, and loses them nothing.
    #[test]
    fn who_logs_waits_for_room_and_loses_nothing() {
        struct Slow(Arc<(Mutex<Vec<u8>>, Mutex<()>)>);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _gate = self.0.1.lock().unwrap();
                self.0.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue: &Queue = Box::leak(Box::default());
        let written = Arc::new((Mutex::new(Vec::new()), Mutex::new(())));
        let mut slow = Slow(Arc::clone(&written));
        let gate = written.1.lock().unwrap();
        std::thread::spawn(move || queue.write(&mut slow));
        let lines = 4 * ROOM / 64;
        let writer = std::thread::spawn(move || {
            for n in 0..lines {
                queue.push(format!("{n:063}\n").as_bytes());
            }
        });
        while queue.lock().waiting.len() + 64 <= ROOM {
            std::thread::yield_now();
        }
        assert!(!writer.is_finished(), "four times the room, and it fits");
        drop(gate);
        writer.join().unwrap();
        queue.wait_until_empty(Duration::from_secs(60));
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.lines()
                .map(|line| line.parse::<usize>().unwrap())
                .eq(0..lines)
        );
    }
}
