//! Bytes between two descriptors of any kind and a socket that net can speak on. One buffer each
//! way: a side that does not read stops the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread::Builder;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes under way in each direction, beside what the kernel holds.
const BUFFER: usize = 64 * 1024;

/// Two threads that relay until either side has ended.
pub struct Relay {
    /// Closed when all that net has sent is written.
    written: Receiver<()>,
}

impl Relay {
    /// Starts to relay. The end of `input` is passed on as an end of writing, what comes back is
    /// still taken then; the end of `socket` closes `output`.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(mut input: File, mut output: File, socket: UnixStream) -> io::Result<Self> {
        let mut to_net = socket.try_clone()?;
        let mut from_net = socket;
        Builder::new().name("input".into()).spawn(move || {
            copy(&mut input, &mut to_net);
            let _ = to_net.shutdown(Shutdown::Write);
        })?;
        let (done, written) = channel();
        Builder::new().name("output".into()).spawn(move || {
            copy(&mut from_net, &mut output);
            // A reader that has gone is the end of the connection.
            let _ = from_net.shutdown(Shutdown::Both);
            drop(output);
            drop(done);
        })?;
        Ok(Self { written })
    }

    /// Waits until what net has sent is written, `limit` at most.
    pub fn finish(self, limit: Duration) {
        let _ = self.written.recv_timeout(limit);
    }
}

/// Copies to the end of either.
fn copy(from: &mut (impl Read + AsFd), to: &mut (impl Write + AsFd)) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if again(&error, from.as_fd(), PollFlags::POLLIN) => continue,
            Err(_) => return,
        };
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(0) => return,
                Ok(written) => rest = &rest[written..],
                Err(error) if again(&error, to.as_fd(), PollFlags::POLLOUT) => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether to try once more; the descriptor may be non-blocking, which is its owner's choice.
fn again(error: &io::Error, fd: BorrowedFd<'_>, events: PollFlags) -> bool {
    match error.kind() {
        io::ErrorKind::Interrupted => true,
        io::ErrorKind::WouldBlock => {
            poll(&mut [PollFd::new(fd, events)], PollTimeout::NONE).is_ok_and(|ready| ready > 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn pipes() -> (io::PipeWriter, io::PipeReader, UnixStream, Relay) {
        let (input, writer) = io::pipe().unwrap();
        let (reader, output) = io::pipe().unwrap();
        let (net, ours) = UnixStream::pair().unwrap();
        net.set_read_timeout(Some(SOON)).unwrap();
        let files = |fd: std::os::fd::OwnedFd| File::from(fd);
        let relay = Relay::start(files(input.into()), files(output.into()), ours).unwrap();
        (writer, reader, net, relay)
    }

    #[test]
    fn the_end_of_input_leaves_the_other_way_open() {
        let (mut writer, mut reader, mut net, relay) = pipes();
        let sent: Vec<u8> = (0..1_000_000).map(|n| n as u8).collect();
        let to_send = sent.clone();
        let sending = thread::spawn(move || writer.write_all(&to_send));
        let mut got = Vec::new();
        net.read_to_end(&mut got).unwrap();
        sending.join().unwrap().unwrap();
        assert_eq!(got, sent);
        let answering = thread::spawn(move || net.write_all(&got));
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        answering.join().unwrap().unwrap();
        assert_eq!(back, sent);
        relay.finish(SOON);
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_connection() {
        let (_writer, reader, mut net, relay) = pipes();
        drop(reader);
        // The relay learns of it when it writes.
        let _ = net.write_all(b"x");
        let mut byte = [0];
        assert_eq!(net.read(&mut byte).unwrap_or(0), 0);
        relay.finish(SOON);
    }
}
