//! Many connections at a TCP port, each in a thread of its own. Whoever has something to say says it at once:
//! where too many are open, the oldest makes way. What is said is not known here.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The connections that are served, in order of age.
#[derive(Debug, Clone)]
pub struct Crowd {
    name: &'static str,
    at_a_time: usize,
    open: Arc<Mutex<VecDeque<(u64, TcpStream)>>>,
}

impl Crowd {
    /// At most so many; their threads have this name.
    pub fn new(name: &'static str, at_a_time: usize) -> Self {
        Self {
            name,
            at_a_time,
            open: Arc::default(),
        }
    }

    /// Takes connections for ever. One that makes way comes to the end of its stream.
    pub fn serve<W>(&self, listener: &TcpListener, work: W)
    where
        W: Fn(TcpStream) + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        for (number, stream) in (0_u64..).zip(listener.incoming()) {
            let Ok(stream) = stream else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            if !self.enter(number, &stream) {
                continue;
            }
            let (crowd, work) = (self.clone(), Arc::clone(&work));
            let one = move || {
                work(stream);
                crowd.leave(number);
            };
            let thread = std::thread::Builder::new().name(self.name.to_owned());
            if thread.spawn(one).is_err() {
                self.leave(number);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, TcpStream)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` if it cannot be kept track of.
    fn enter(&self, number: u64, stream: &TcpStream) -> bool {
        let Ok(stream) = stream.try_clone() else {
            return false;
        };
        let mut open = self.lock();
        if open.len() >= self.at_a_time
            && let Some((_, oldest)) = open.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        open.push_back((number, stream));
        true
    }

    fn leave(&self, number: u64) {
        self.lock().retain(|(other, _)| *other != number);
    }
}
