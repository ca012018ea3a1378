//! From packets to answers: what is permitted, in which order, by whom, and how it all ends.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::handles::{Handle, Handles};
use crate::input::{Input, StreamError};
use crate::order::Touched;
use crate::output::{Output, Share};
use crate::packet::{MAX_DATA, MAX_PACKET, Packet};
use crate::paths::Paths;
use crate::people::People;
use crate::policy::Policy;
use crate::record::{Noted, Recorder};
use crate::refusal::Refusal;
use crate::relay::Relay;
use crate::request::{self, Opening, Request};
use crate::schedule::Schedule;
use crate::{audit, change, file, folder, names, reply};

/// Requests that are done at the same time.
const MAX_WORKERS: usize = 16;
/// How long after the client's last byte an answer may be in coming.
const PATIENCE: Duration = Duration::from_secs(5);
/// Handing a request to another thread costs more than doing it, up to here: several times what the
/// largest read takes from memory.
const SLOW: Duration = Duration::from_micros(400);
/// How long quick requests may take that other threads have, before more go to those.
const SETTLE: Duration = Duration::from_millis(5);
/// What an answer without data takes, in the budget.
const ANSWER: usize = 1024;
/// What a list of names takes.
const LIST: usize = 34_000;

/// Another thread reads the client's packets from here on.
struct TakenOver;

/// One connection.
#[derive(Debug)]
pub struct Server {
    policy: Policy,
    paths: Paths,
    people: People,
    handles: Handles,
    schedule: Schedule<Job>,
    output: Output,
    relay: Relay<Input>,
    workers: AtomicUsize,
    /// The latest request took [`SLOW`] or longer.
    slow: AtomicBool,
    /// The version is agreed on.
    greeted: AtomicBool,
    client_version: AtomicU32,
    /// Name of the user and address of the client, for the record.
    who: (String, String),
    /// Who hears what is done to files.
    record: Option<Recorder>,
    ending: Mutex<()>,
}

/// Who does a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Goes on with what may start then.
    Worker,
    /// Goes back to the input; the answer may wait for the next if there is `more` of it.
    Reader { more: bool },
}

/// A request on its way.
#[derive(Debug)]
struct Job {
    id: u32,
    request: Request,
    /// The packet, for the bytes of a write.
    packet: Packet,
    /// The handles that it names, in its order, as they were when it arrived.
    handles: [Option<Arc<Handle>>; 2],
    share: Share,
}

impl Server {
    /// For one client, `who` is the name of the user and the address of the client.
    pub fn new(
        policy: Policy,
        paths: Paths,
        output: Output,
        who: (String, String),
        record: Option<Recorder>,
    ) -> Arc<Self> {
        audit::opened(&who.0, &who.1);
        Arc::new(Self {
            policy,
            paths,
            people: People::default(),
            handles: Handles::default(),
            schedule: Schedule::default(),
            output,
            relay: Relay::default(),
            workers: AtomicUsize::new(0),
            slow: AtomicBool::new(false),
            greeted: AtomicBool::new(false),
            client_version: AtomicU32::new(0),
            who,
            record,
            ending: Mutex::new(()),
        })
    }

    /// Serves the client until it is gone, and ends the process.
    pub fn serve(self: &Arc<Self>, input: Input) -> ! {
        let server = Arc::clone(self);
        let standby = std::thread::Builder::new().name("standby".into());
        // Without a thread to stand by, a slow request keeps others waiting, and that is all.
        let _ = standby.spawn(move || {
            let input = server.take_over();
            server.read_on(input)
        });
        self.read_on(input)
    }

    fn read_on(self: &Arc<Self>, mut input: Input) -> ! {
        loop {
            let code = match self.take_all(input) {
                Ok(None) => 0,
                Ok(Some(TakenOver)) => {
                    input = self.take_over();
                    continue;
                }
                Err(error) => {
                    tracing::error!(event = "sftp.broken", error = service::exit::chain(&error));
                    error.exit_code()
                }
            };
            self.release();
            self.output.drain(PATIENCE);
            self.end(code)
        }
    }

    /// Waits until another thread is held up by its request.
    fn take_over(&self) -> Input {
        let input = self.relay.stand_by();
        // What that thread was to write with its next answer.
        self.release();
        input
    }

    /// Reads until the end, or until another thread reads.
    fn take_all(self: &Arc<Self>, mut input: Input) -> Result<Option<TakenOver>, StreamError> {
        while let Some(packet) = input.packet()? {
            let opening = request::open(&packet).ok_or(StreamError::TooShort(packet.len()))?;
            match opening {
                Opening::Init(version) => {
                    self.client_version.store(version, Ordering::Relaxed);
                    self.greeted.store(true, Ordering::Relaxed);
                    let version = reply::version(|entry| self.policy.permits(entry));
                    self.answer(version, self.output.share(ANSWER));
                }
                _ if !self.greeted.load(Ordering::Relaxed) => return Err(StreamError::TooEarly),
                Opening::Unknown(id) => self.refuse(id, Refusal::Unsupported),
                Opening::Cut(id) => self.refuse(id, Refusal::BadMessage),
                Opening::Request(entry, id, fields) if !self.policy.permits(entry) => {
                    if self.record.is_some()
                        && let Ok(request) = Request::decode(entry.operation, fields, &packet)
                    {
                        let handles = self.handles_of(&request);
                        self.note(&request, &handles)
                            .done(Err(Refusal::NotPermitted));
                    }
                    self.refuse(id, Refusal::NotPermitted);
                }
                Opening::Request(entry, id, fields) => {
                    match Request::decode(entry.operation, fields, &packet) {
                        Ok(request) => {
                            let (touched, job) = self.admit(id, request, packet);
                            match self.start(touched, job, input) {
                                Some(back) => input = back,
                                None => return Ok(Some(TakenOver)),
                            }
                        }
                        Err(error) => self.refuse(id, error.into()),
                    }
                }
            }
        }
        Ok(None)
    }

    /// Waits for room, and ties the request to the handles that there are now.
    fn admit(&self, id: u32, request: Request, packet: Packet) -> (Touched, Job) {
        audit::begins(&request, |id| Some(self.handles.get(id)?.name.clone()));
        let packet = match request {
            Request::Write { .. } => packet,
            _ => Packet::default(),
        };
        let share = self
            .output
            .share(Packet::cost(packet.len()) + answer_cost(&request));
        let handles = match &request {
            Request::Close { handle } => [self.handles.remove(*handle), None],
            request => self.handles_of(request),
        };
        let opened = |id| {
            handles
                .iter()
                .flatten()
                .find(|h| h.id == id)
                .map(|h| h.path.clone())
        };
        let touched = Touched::by(&request, |path| self.paths.absolute(path), opened);
        (
            touched,
            Job {
                id,
                request,
                packet,
                handles,
                share,
            },
        )
    }

    /// The handles that a request names, in its order.
    fn handles_of(&self, request: &Request) -> [Option<Arc<Handle>>; 2] {
        match request {
            Request::CopyData { from, to, .. } => [self.handles.get(*from), self.handles.get(*to)],
            request => [self.handles.get(handle_of(request)), None],
        }
    }

    /// What is to be on the record of this request, if there is one.
    fn note(&self, request: &Request, handles: &[Option<Arc<Handle>>; 2]) -> Note<'_> {
        Note(
            self.record
                .as_ref()
                .and_then(|record| Some((record, Noted::of(request, handles, &self.paths)?))),
        )
    }

    /// Has the request done: here if nothing is under way and requests are quick, by the workers
    /// otherwise. The input comes back unless another thread has taken it over.
    fn start(self: &Arc<Self>, touched: Touched, job: Job, input: Input) -> Option<Input> {
        let slow = self.slow.load(Ordering::Relaxed);
        let (touched, job) = if slow && input.has_more() || !slow && !self.schedule.settle(SETTLE) {
            (touched, job)
        } else {
            match self.schedule.alone(touched, job) {
                Ok((number, job)) => {
                    let more = input.has_packet();
                    self.relay.lend(input);
                    self.run(number, job, By::Reader { more });
                    let back = self.relay.take_back();
                    if back.is_none() {
                        // The next packet may be long in coming, now that another thread reads.
                        self.release();
                    }
                    return back;
                }
                Err(back) => back,
            }
        };
        self.release();
        if self.schedule.add(touched, job) && !self.hire() {
            self.do_ready();
        }
        Some(input)
    }

    /// Does what may start, where there may be no other thread at all (`RLIMIT_NPROC`).
    fn do_ready(self: &Arc<Self>) {
        while let Some((number, job)) = self.schedule.try_next() {
            self.run(number, job, By::Worker);
        }
    }

    /// Starts a worker, if there may be one more. The answer is whether there is any.
    fn hire(self: &Arc<Self>) -> bool {
        let more = |n| (n < MAX_WORKERS).then_some(n + 1);
        let counted = self
            .workers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let Ok(before) = counted else {
            return true;
        };
        let server = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name("worker".into())
            .spawn(move || {
                loop {
                    let (number, job) = server.schedule.next();
                    server.run(number, job, By::Worker);
                }
            });
        if started.is_err() {
            self.workers.fetch_sub(1, Ordering::Relaxed);
        }
        started.is_ok() || before > 0
    }

    fn run(self: &Arc<Self>, number: u64, job: Job, by: By) {
        let Job {
            id,
            request,
            packet,
            handles,
            mut share,
        } = job;
        if let Request::Read { length, .. } = request {
            let room = Packet::cost(reply::DATA_HEADER + MAX_DATA.min(length as usize));
            self.output.enlarge(&mut share, room);
        }
        let begun = Instant::now();
        let note = self.note(&request, &handles);
        let answer = match self.perform(id, request, &packet, &handles) {
            Ok(answer) => {
                note.done(Ok(()));
                answer
            }
            Err(refusal) => {
                note.done(Err(refusal));
                audit::failed(refusal);
                self.status(id, Err(refusal))
            }
        };
        self.slow.store(begun.elapsed() >= SLOW, Ordering::Relaxed);
        drop((packet, handles));
        let writes = match by {
            By::Reader { more: true } => self.output.hold(answer, share),
            _ => self.output.push(answer, share),
        };
        let wanted = self.schedule.finish(number, writes || by != By::Worker);
        // Before the answers, so that others are at work while they are written.
        let alone = wanted && !self.hire();
        if writes {
            self.write();
        }
        if alone {
            self.do_ready();
        }
    }

    fn perform(
        &self,
        id: u32,
        request: Request,
        packet: &[u8],
        handles: &[Option<Arc<Handle>>; 2],
    ) -> Result<Packet, Refusal> {
        let paths = &self.paths;
        let handle = handles[0].as_deref();
        let known = handle.ok_or(Refusal::WrongHandle);
        let done = match request {
            Request::Open {
                path,
                flags,
                attributes,
            } => {
                if !self.policy.permits_open(flags) {
                    return Err(Refusal::NotPermitted);
                }
                return file::open(&self.handles, paths, id, &path, flags, &attributes);
            }
            Request::Read { offset, length, .. } => return file::read(known?, id, offset, length),
            Request::Fstat { .. } => return file::stat(known?, id),
            Request::Fstatvfs { .. } => return file::file_system(known?, id),
            Request::Readdir { .. } => return folder::answer(known?, id, paths, &self.people),
            Request::Lstat { path } => return names::lstat(paths, id, &path),
            Request::Stat { path } => return names::stat(paths, id, &path),
            Request::Statvfs { path } => return names::file_system(paths, id, &path),
            Request::Opendir { path } => return folder::open(&self.handles, paths, id, &path),
            Request::Realpath { path } => return names::real(paths, id, &path),
            Request::Readlink { path } => return names::readlink(paths, id, &path),
            Request::ExpandPath { path } => return names::expand(paths, &self.people, id, &path),
            Request::Limits => return Ok(limits(id)),
            Request::HomeDirectory { user } => {
                let home = self.people.home(&user).ok_or(Refusal::NoSuchHome)?;
                return Ok(reply::name(id, &home));
            }
            Request::UsersGroupsById { users, groups } => {
                return reply::people(id, &self.people, &users, &groups);
            }
            Request::Close { .. } => {
                let handle = handle.ok_or(Refusal::NoSuchHandle)?;
                audit::closes(handle, false);
                file::close(handle)
            }
            Request::Write { offset, data, .. } => {
                file::write(known?, offset, packet.get(data).unwrap_or_default())
            }
            Request::Fsync { .. } => file::sync(handle.ok_or(Refusal::NoSuchHandle)?),
            Request::CopyData {
                offset,
                length,
                to_offset,
                ..
            } => {
                let to = handles[1].as_deref().ok_or(Refusal::WrongHandle)?;
                file::copy(known?, offset, length, to, to_offset)
            }
            Request::Fsetstat { attributes, .. } => change::by_handle(known?, &attributes),
            Request::Setstat { path, attributes } => change::by_path(paths, &path, &attributes),
            Request::Lsetstat { path, attributes } => change::of_link(paths, &path, &attributes),
            Request::Remove { path } => names::remove(paths, &path),
            Request::Mkdir { path, attributes } => {
                folder::make(paths, &path, attributes.permissions.unwrap_or(0o777))
            }
            Request::Rmdir { path } => folder::remove(paths, &path),
            Request::Rename { old, new } => names::rename(paths, &old, &new),
            Request::PosixRename { old, new } => names::posix_rename(paths, &old, &new),
            Request::Symlink { target, link } => names::symlink(paths, &target, &link),
            Request::Hardlink { old, new } => names::hardlink(paths, &old, &new),
        };
        done.map(|()| self.status(id, Ok(())))
    }

    fn status(&self, id: u32, outcome: Result<(), Refusal>) -> Packet {
        reply::status(id, self.client_version.load(Ordering::Relaxed), outcome)
    }

    fn refuse(&self, id: u32, refusal: Refusal) {
        audit::failed(refusal);
        self.answer(self.status(id, Err(refusal)), self.output.share(ANSWER));
    }

    fn answer(&self, answer: Packet, share: Share) {
        if self.output.push(answer, share) {
            self.write();
        }
    }

    fn write(&self) {
        self.written(self.output.write());
    }

    fn release(&self) {
        self.written(self.output.release());
    }

    fn written(&self, outcome: std::io::Result<()>) {
        if let Err(error) = outcome {
            // A client that does not want its answers has gone, which is no fault.
            let gone = matches!(
                error.kind(),
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
            );
            self.end(if gone { 0 } else { 1 });
        }
    }

    /// Ends the process with everything in it; the kernel closes what is open.
    fn end(&self, code: i32) -> ! {
        let _once = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        for handle in self.handles.all() {
            audit::closes(&handle, true);
            if let (Some(record), Some(noted)) = (&self.record, Noted::closes(&handle)) {
                record.tell(&noted, Ok(()));
            }
        }
        audit::ended(&self.who.0, &self.who.1);
        std::process::exit(code)
    }
}

/// Something for the record, until it is known how it went.
struct Note<'a>(Option<(&'a Recorder, Noted)>);

impl Note<'_> {
    fn done(self, outcome: Result<(), Refusal>) {
        if let Some((record, noted)) = self.0 {
            record.tell(&noted, outcome);
        }
    }
}

fn handle_of(request: &Request) -> Option<u32> {
    match request {
        Request::Read { handle, .. }
        | Request::Write { handle, .. }
        | Request::Fstat { handle }
        | Request::Fsetstat { handle, .. }
        | Request::Readdir { handle }
        | Request::Fstatvfs { handle }
        | Request::Fsync { handle } => *handle,
        _ => None,
    }
}

fn answer_cost(request: &Request) -> usize {
    match request {
        Request::Opendir { .. } | Request::Readdir { .. } => LIST,
        Request::UsersGroupsById { .. } => MAX_PACKET,
        _ => ANSWER,
    }
}

/// `limits@openssh.com`: packet, read, write, handles. Five descriptors are for other uses.
fn limits(id: u32) -> Packet {
    use nix::sys::resource::{Resource, getrlimit};
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft.saturating_sub(5));
    reply::numbers(
        id,
        &[MAX_PACKET as u64, MAX_DATA as u64, MAX_DATA as u64, files],
    )
}
