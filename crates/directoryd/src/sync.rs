//! Keeping the replica true: one thread that holds the connection, reads everything at intervals and
//! single users on demand.
//!
//! Nobody waits for this thread longer than they said; when the server is away, it says so at once.

mod on_demand;

use std::{
    io,
    sync::{Arc, mpsc as blocking},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use on_demand::{Sought, groups_in, is_no_list};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep, sleep_until},
};

use crate::{
    config::{self, Schema},
    content::{Message, Refresh},
    domain::Share,
    jobs::{self, Handle, Job},
    ldap::{Feed, Found, LdapError, Servers, Session, told},
    replica::{Part, Replica},
    wanted::{Asker, Wanted},
};

/// The name of the thread, by which the panic hook knows it.
pub const THREAD: &str = "ldap";
/// Most look-ups under way at the server.
const MOST_LOOKUPS: usize = 64;
/// Least time between two attempts to connect.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Most time between two attempts to connect, where nobody is there to answer.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// And where we are refused: more, and the least though somebody waits, as wrong passwords can lock our account.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Reading everything is to take no more than one part in so many of the time.
const SHARE: u32 = 20;
/// How long a server's word that nothing has changed is taken for that.
const FULL_PASS: Duration = Duration::from_secs(3600);
/// How long a server may take to bring us in step.
const REFRESH: Duration = Duration::from_secs(60);

/// Starts the thread.
///
/// # Errors
/// If it cannot be started.
pub fn start(core: Share, config: Arc<config::Ldap>, servers: Arc<Servers>) -> io::Result<Handle> {
    let (handle, jobs) = jobs::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name(THREAD)
        .build()?;
    thread::Builder::new()
        .name(THREAD.into())
        .spawn(move || runtime.block_on(run(core, config, servers, jobs)))?;
    Ok(handle)
}

async fn run(
    core: Share,
    config: Arc<config::Ldap>,
    servers: Arc<Servers>,
    mut jobs: mpsc::Receiver<Job>,
) {
    for uri in servers.plain().filter(|_| !config.start_tls) {
        tracing::warn!(
            event = "ldap.plain",
            uri,
            hint = "the bind password travels in the clear: set start-tls, or use ldaps://",
        );
    }
    let mut better = None;
    let (mut wait, mut least, mut most) = (FIRST_WAIT, FIRST_WAIT, LAST_WAIT);
    let mut pending = Vec::new();
    loop {
        let started = Instant::now();
        let connected = match better.take() {
            Some(session) => Ok((session, 0)),
            None => connect(&core, &config, &servers, 2).await,
        };
        match connected {
            Ok((session, tier)) => {
                tracing::info!(event = "ldap.connected", uri = session.uri, tier);
                core.set_server(&session.uri);
                let primary = (tier > 0).then_some(&servers);
                let pending = std::mem::take(&mut pending);
                let error = match serve(&core, &config, &session, primary, &mut jobs, pending).await
                {
                    End::Failed(error) => error,
                    End::Better(session) => {
                        better = Some(session);
                        continue;
                    }
                };
                core.set_server("");
                core.numbers.server(&session.uri, false);
                core.following(false);
                core.set_problem(&error);
                // One that lived is tried again soon.
                if started.elapsed() > LAST_WAIT {
                    wait = FIRST_WAIT;
                }
            }
            Err(error) => {
                (least, most) = match error.is_absence() {
                    true => (FIRST_WAIT, LAST_WAIT),
                    false => (REFUSED_PAUSE, REFUSED_WAIT),
                };
                wait = wait.max(least);
                core.set_problem(&told(&error));
            }
        }
        pending.drain(..).for_each(Job::refuse);
        let pause = sleep(wait.mul_f64(jitter()));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                job = jobs.recv() => match job {
                    None => return,
                    // Somebody is waiting: try at once, but not more than once a second. An administrator knows why.
                    Some(job @ Job::Refresh { .. }) => {
                        pending.push(job);
                        break;
                    }
                    Some(job) if started.elapsed() >= least => {
                        pending.push(job);
                        break;
                    }
                    Some(job) => job.refuse(),
                },
            }
        }
        wait = (wait * 2).min(most);
    }
}

/// The first server of the first tiers that lets us in, with its tier.
async fn connect(
    core: &Share,
    config: &Arc<config::Ldap>,
    servers: &Servers,
    tiers: usize,
) -> Result<(Session, usize), LdapError> {
    let mut last = LdapError::Unfound;
    for tier in 0..tiers {
        for server in servers.tier(tier).await {
            let uri = server.uri.clone();
            // In a task of its own: if the library panics, that attempt has failed, and no more.
            let config = config.clone();
            let opening = tokio::spawn(async move { Session::open(config, &server).await });
            let start = Instant::now();
            let opened = opening.await.unwrap_or(Err(LdapError::Panic));
            core.numbers.server(&uri, opened.is_ok());
            core.numbers.took("connect", start.elapsed());
            match opened {
                Ok(session) => return Ok((session, tier)),
                Err(error) => {
                    tracing::debug!(event = "ldap.unreachable", uri, error = told(&error));
                    last = error;
                }
            }
        }
    }
    Err(last)
}

/// What a task brings back.
enum Done {
    Account {
        name: String,
        asked: SystemTime,
        result: Result<Box<Found>, LdapError>,
        done: blocking::SyncSender<bool>,
    },
    Found {
        wanted: Wanted,
        asked: SystemTime,
        result: Result<Sought, LdapError>,
        asker: Option<Asker>,
    },
    Pass(Result<Box<Pass>, LdapError>),
    /// The server still answers; when it was asked.
    Still(Result<SystemTime, LdapError>),
    /// A server that is preferred lets us in again, or none does.
    Primary(Option<Session>),
}

/// Why a connection is given up.
enum End {
    /// It is of no use any more.
    Failed(String),
    /// There is a better one.
    Better(Session),
}

/// A server that tells of changes as they happen.
struct Follow {
    feed: Feed,
    refreshes: [Refresh; 2],
    started: Instant,
    /// It began with what was read on this connection, not where an earlier one ended.
    fresh: bool,
    /// Something heard is not served yet.
    news: bool,
    /// Everything up to its beginning has been heard.
    live: bool,
}

impl Follow {
    fn refresh(&mut self, part: Part) -> &mut Refresh {
        &mut self.refreshes[part as usize]
    }
}

/// What is heard next; for ever nothing without a feed. Not before `time`.
async fn heard(follow: &mut Option<Follow>, time: Instant) -> Heard {
    match follow {
        Some(follow) => {
            sleep_until(time.into()).await;
            follow.feed.next().await
        }
        None => std::future::pending().await,
    }
}

type Heard = Vec<(Part, Result<Message, LdapError>)>;

/// A reading of everything, or the server's word that nothing has changed.
struct Pass {
    mark: Option<Vec<Vec<u8>>>,
    asked: SystemTime,
    started: Instant,
    replica: Option<Replica>,
}

/// Somebody who waits for a refresh.
type Waiter = blocking::SyncSender<Result<(), String>>;

/// Works with one connection until it fails; returns why it did.
async fn serve(
    core: &Share,
    config: &Arc<config::Ldap>,
    session: &Session,
    primary: Option<&Arc<Servers>>,
    jobs: &mut mpsc::Receiver<Job>,
    pending: Vec<Job>,
) -> End {
    let mut work = Work::new(core, config, session, primary);
    pending.into_iter().for_each(|job| work.take(job));
    let interval = config.refresh_interval.min(config.change_interval);
    let mut ticks = interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        work.start_pass_if_due();
        work.go_on_again();
        let ended = tokio::select! {
            () = session.ended() => Err("the connection to the directory server ended".to_owned()),
            _ = ticks.tick() => {
                work.tick();
                Ok(())
            }
            job = jobs.recv() => job.map(|job| work.take(job)).ok_or_else(|| "shutting down".to_owned()),
            Some(done) = work.tasks.join_next() => match done {
                Ok(done) => work.finish(done),
                Err(error) => Err(format!("reading the directory failed: {error}")),
            },
            heard = heard(&mut work.follow, work.not_before) => work.hear(heard),
        };
        if let Err(reason) = ended {
            return End::Failed(reason);
        }
        if let Some(session) = work.better.take() {
            return End::Better(session);
        }
    }
}

/// What is under way on one connection.
struct Work<'a> {
    core: &'a Share,
    config: &'a Arc<config::Ldap>,
    session: &'a Session,
    tasks: JoinSet<Done>,
    /// A pass should be made.
    due: bool,
    /// A pass is being made.
    passing: bool,
    /// A look-up has brought news since that pass began, so what it reads may be older.
    overtaken: bool,
    /// The server's change mark at the last pass.
    mark: Option<Vec<Vec<u8>>>,
    /// The server tells of changes.
    follow: Option<Follow>,
    /// It does not, or not in a way that we understand.
    mute: bool,
    /// What it tells is served at intervals, so that a flood of changes does not use up a processor.
    not_before: Instant,
    /// When the server was last asked whether it is there, and whether that is under way.
    last_still: Instant,
    stilling: bool,
    /// Where servers are that are preferred to this one; whether and when they were tried, and one that
    /// was found.
    servers: Option<&'a Arc<Servers>>,
    trying: bool,
    last_try: Instant,
    better: Option<Session>,
    /// The directory cannot be listed.
    on_demand: bool,
    /// What is still to be asked for without anybody who waits; since when all that is held is, when that was over
    /// last, and how long it took.
    again: Vec<Wanted>,
    again_since: Option<Instant>,
    again_ended: Instant,
    again_cost: Duration,
    /// When something of that was served last.
    last_served: Instant,
    /// When everything was read last, and how long that took.
    last_full: Instant,
    cost: Duration,
    /// Who waits for the next pass, and who for this one.
    next: Vec<Waiter>,
    this: Vec<Waiter>,
}

impl<'a> Work<'a> {
    fn new(
        core: &'a Share,
        config: &'a Arc<config::Ldap>,
        session: &'a Session,
        servers: Option<&'a Arc<Servers>>,
    ) -> Self {
        let mut work = Self {
            core,
            config,
            session,
            tasks: JoinSet::new(),
            due: true,
            passing: false,
            overtaken: false,
            mark: None,
            follow: None,
            mute: !config.syncrepl || config.schema == Schema::Ad,
            not_before: Instant::now(),
            last_still: Instant::now(),
            stilling: false,
            servers,
            trying: false,
            last_try: Instant::now(),
            better: None,
            on_demand: config.on_demand && core.is_partial(),
            again: Vec::new(),
            again_since: None,
            again_ended: Instant::now(),
            again_cost: Duration::ZERO,
            last_served: Instant::now(),
            last_full: Instant::now(),
            cost: Duration::ZERO,
            next: Vec::new(),
            this: Vec::new(),
        };
        // Where the last connection, or the last run, ended.
        work.follow(false);
        // What could not be listed an hour ago need not be tried at each connection.
        work.due = work.follow.is_none() && !work.on_demand;
        if work.on_demand {
            work.ask_all_again();
        }
        work
    }

    /// Has the server tell of changes, if it can.
    fn follow(&mut self, fresh: bool) {
        if self.mute {
            return;
        }
        self.follow = self.core.cookies().map(|cookies| Follow {
            feed: self.session.feed(cookies),
            refreshes: Default::default(),
            started: Instant::now(),
            fresh,
            news: false,
            live: false,
        });
    }

    /// Takes what the server tells.
    fn hear(&mut self, heard: Heard) -> Result<(), String> {
        let Some(follow) = &mut self.follow else {
            return Ok(());
        };
        let mut failed = heard.is_empty().then_some(LdapError::Feed);
        for (part, message) in heard {
            let refresh = follow.refresh(part);
            match message.and_then(|message| self.core.hear(part, refresh, message)) {
                Ok(news) => follow.news |= news,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed {
            return self.unfollow(&error);
        }
        if !follow.refreshes.iter().all(|refresh| refresh.live) {
            return Ok(());
        }
        if !follow.live {
            follow.live = true;
            self.core.following(true);
            tracing::info!(event = "sync.live", resumed = !follow.fresh);
            self.core.set_problem("");
            self.core.confirm(SystemTime::now());
        }
        if std::mem::take(&mut follow.news) {
            let start = Instant::now();
            self.core.serve_news();
            self.not_before = Instant::now() + 2 * start.elapsed();
        }
        Ok(())
    }

    /// Goes on without being told: everything is read, and then there is one more try.
    fn unfollow(&mut self, error: &LdapError) -> Result<(), String> {
        let Some(follow) = self.follow.take() else {
            return Ok(());
        };
        if matches!(error, LdapError::Library { .. }) {
            return Err(told(error));
        }
        self.core.following(false);
        // Where another connection ended need not mean anything to this server any more.
        self.mute |= follow.fresh;
        tracing::warn!(
            event = "sync.ended",
            error = told(error),
            instead = if self.mute {
                "asking at intervals"
            } else {
                "reading everything"
            },
        );
        if let LdapError::Vanished(_) = error {
            self.core.set_problem(&told(error));
        }
        self.mark = None;
        self.due = true;
        Ok(())
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Account { name, done } if self.tasks.len() < MOST_LOOKUPS => {
                let (session, exact) = (self.session.clone(), self.on_demand);
                self.tasks.spawn(async move {
                    let asked = SystemTime::now();
                    let result = session.one(&name, exact).await.map(Box::new);
                    Done::Account {
                        name,
                        asked,
                        result,
                        done,
                    }
                });
            }
            Job::Account { .. } => job.refuse(),
            Job::Find { wanted, asker } if self.on_demand && self.tasks.len() < MOST_LOOKUPS => {
                self.find(wanted, asker);
            }
            Job::Find { .. } => job.refuse(),
            // Not the pass under way: it may have read what has changed since.
            Job::Refresh { done } => {
                self.next.push(done);
                self.due = true;
                if self.on_demand {
                    self.ask_all_again();
                }
            }
        }
    }

    /// A mark is cheap to ask for; but a directory that changes all the time (each login may write
    /// to it) must not be read all the time.
    fn tick(&mut self) {
        let interval = self.config.refresh_interval;
        if let Some(servers) = self.servers
            && !self.trying
            && self.last_try.elapsed() >= self.config.primary_interval
        {
            self.trying = true;
            let (core, config, servers) = (self.core.clone(), self.config.clone(), servers.clone());
            self.tasks.spawn(async move {
                let found = connect(&core, &config, &servers, 1).await;
                Done::Primary(found.ok().map(|(session, _)| session))
            });
        }
        if let Some(follow) = &self.follow {
            self.due |= self.last_full.elapsed() >= FULL_PASS;
            if !follow.live && follow.started.elapsed() > REFRESH {
                let _ = self.unfollow(&LdapError::Deadline("content synchronisation"));
            } else if follow.live
                && !self.stilling
                && self.last_still.elapsed() >= self.config.change_interval
            {
                // It tells nothing while nothing changes: is it there at all?
                self.stilling = true;
                let session = self.session.clone();
                self.tasks.spawn(async move {
                    let asked = SystemTime::now();
                    Done::Still(session.change_mark().await.map(|_| asked))
                });
            }
            return;
        }
        if self.on_demand {
            self.due |= self.last_full.elapsed() >= FULL_PASS;
            let pause = interval.max(self.again_cost * SHARE);
            if self.again_since.is_none() && self.again_ended.elapsed() >= pause {
                self.ask_all_again();
            }
            return;
        }
        let pause = match self.mark {
            Some(_) => interval.min(self.cost * SHARE),
            None => interval,
        };
        self.due |= self.last_full.elapsed() >= pause;
    }

    fn start_pass_if_due(&mut self) {
        if !self.due || self.passing {
            return;
        }
        (self.due, self.passing, self.overtaken) = (false, true, false);
        // What it would tell meanwhile might be newer than what is read.
        self.follow = None;
        self.this.append(&mut self.next);
        let trusted = self.this.is_empty() && self.last_full.elapsed() < FULL_PASS;
        let known = self.mark.clone().filter(|_| trusted);
        let session = self.session.clone();
        self.tasks
            .spawn(async move { Done::Pass(pass(&session, known).await.map(Box::new)) });
    }

    /// Takes what a task brings back; an error ends the connection.
    fn finish(&mut self, done: Done) -> Result<(), String> {
        match done {
            Done::Account {
                name,
                asked,
                result,
                done,
            } => {
                if let Ok(time) = asked.elapsed() {
                    self.core.numbers.took("look-up", time);
                }
                match result {
                    Ok(found) => {
                        let groups = groups_in(&found);
                        let news = self.core.set_account(&name, *found, asked);
                        self.want_members(news, groups);
                        let _ = done.try_send(true);
                        if (news.changed || news.unknown) && !self.on_demand {
                            // Answers can overtake one another: read everything once more, so that the
                            // last word is one that was asked for last.
                            self.overtaken = true;
                            self.mark = None;
                            self.due = true;
                        }
                        Ok(())
                    }
                    Err(error) => {
                        let _ = done.try_send(false);
                        tracing::warn!(event = "lookup.failed", user = name, error = told(&error));
                        if matches!(error, LdapError::Ambiguous(_)) {
                            self.due |= !self.on_demand;
                            self.drop_ambiguous(&Wanted::User(name));
                        }
                        if is_fatal(&error) {
                            Err(told(&error))
                        } else {
                            Ok(())
                        }
                    }
                }
            }
            Done::Found {
                wanted,
                asked,
                result,
                asker,
            } => {
                if let Ok(time) = asked.elapsed() {
                    self.core.numbers.took("look-up", time);
                }
                let known = match result {
                    Ok(Sought::User(name, found)) => {
                        let groups = groups_in(&found);
                        let news = self.core.put_account(&name, *found, asked);
                        self.want_members(news, groups);
                        Ok(())
                    }
                    Ok(Sought::Group(found)) => {
                        self.core.put_group(&wanted, found);
                        Ok(())
                    }
                    Ok(Sought::Nobody) => Ok(()),
                    Err(error) => Err(error),
                };
                if let Err(LdapError::Ambiguous(_)) = known {
                    self.drop_ambiguous(&wanted);
                }
                if let Some(asker) = asker {
                    self.core.serve_if_unserved();
                    asker.tell(known.is_ok());
                }
                match known {
                    Err(error) if is_fatal(&error) => Err(told(&error)),
                    Err(error) => {
                        tracing::debug!(event = "lookup.failed", ?wanted, error = told(&error));
                        Ok(())
                    }
                    Ok(()) => Ok(()),
                }
            }
            Done::Primary(found) => {
                (self.trying, self.last_try) = (false, Instant::now());
                self.better = found;
                Ok(())
            }
            Done::Still(result) => {
                (self.stilling, self.last_still) = (false, Instant::now());
                match result {
                    Ok(asked) => {
                        self.core.confirm(asked);
                        Ok(())
                    }
                    Err(error) if is_fatal(&error) => Err(told(&error)),
                    Err(_) => Ok(()),
                }
            }
            Done::Pass(result) => {
                self.passing = false;
                let result = match result {
                    Ok(_) if self.overtaken => {
                        self.next.append(&mut self.this);
                        self.due = true;
                        return Ok(());
                    }
                    Ok(pass) => self.take_pass(*pass),
                    Err(error) => Err(error),
                };
                let result = match result {
                    Err(error) if self.config.on_demand && is_no_list(&error) => {
                        if !self.on_demand {
                            tracing::info!(event = "directory.not_listed", why = told(&error));
                        }
                        self.on_demand = true;
                        self.last_full = Instant::now();
                        self.core.cannot_list(self.session.lockout);
                        self.ask_all_again();
                        Ok(())
                    }
                    result => {
                        self.on_demand &= result.is_err();
                        result
                    }
                };
                let fatal = result.as_ref().err().is_some_and(is_fatal);
                let answer = result.map_err(|error| told(&error));
                for waiter in self.this.drain(..) {
                    let _ = waiter.try_send(answer.clone());
                }
                let problem = answer.err().unwrap_or_default();
                self.core.set_problem(&problem);
                if fatal { Err(problem) } else { Ok(()) }
            }
        }
    }

    fn take_pass(&mut self, pass: Pass) -> Result<(), LdapError> {
        self.mark = None;
        match pass.replica {
            Some(replica) => {
                self.cost = pass.started.elapsed();
                self.core.numbers.took("everything", self.cost);
                self.last_full = Instant::now();
                self.core.set_replica(replica)?;
                self.follow(true);
            }
            None => self.core.confirm(pass.asked),
        }
        self.mark = pass.mark;
        Ok(())
    }
}

async fn pass(session: &Session, known: Option<Vec<Vec<u8>>>) -> Result<Pass, LdapError> {
    let (asked, started) = (SystemTime::now(), Instant::now());
    // Read before the entries: a change in between shows at the next pass.
    let mark = session.change_mark().await?;
    if mark.is_some() && mark == known {
        return Ok(Pass {
            mark,
            asked,
            started,
            replica: None,
        });
    }
    let mut replica = session.whole().await?;
    if let Some(mark) = &mark {
        // The form of OpenLDAP's cookies; another server with such marks would refuse it.
        let marks: Vec<_> = mark
            .iter()
            .map(|one| String::from_utf8_lossy(one))
            .collect();
        let cookie = format!("rid=000,csn={}", marks.join(";"));
        for part in [Part::Users, Part::Groups] {
            replica.step_mut(part).cookie = cookie.clone().into_bytes();
        }
    }
    Ok(Pass {
        mark,
        asked,
        started,
        replica: Some(replica),
    })
}

/// True if the connection is not worth keeping.
fn is_fatal(error: &LdapError) -> bool {
    !matches!(
        error,
        LdapError::Refused { .. }
            | LdapError::TooMany(..)
            | LdapError::Ambiguous(_)
            | LdapError::Vanished(_)
            | LdapError::Range(_)
            | LdapError::Unasked(_)
    )
}

/// A factor between 0.75 and 1.25, so that pods do not come back all at once.
fn jitter() -> f64 {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_nanos();
    0.75 + f64::from(nanos % 1000) / 2000.0
}
