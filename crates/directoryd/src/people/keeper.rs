//! One thread that looks at the file each second, and at once when somebody asks.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use service::exit::chain;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::People;
use crate::{
    config::PeopleFile,
    domain::Share,
    jobs::{self, Handle, Job},
    local::Stamp,
    password_hash::Hashes,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the thread.
///
/// # Errors
/// If it cannot be started.
pub fn keep(core: Share, file: PeopleFile, hashes: Arc<Hashes>) -> io::Result<Handle> {
    let (handle, jobs) = jobs::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let keeper = Keeper {
        core,
        file,
        hashes,
        known: None,
        problem: None,
    };
    thread::Builder::new()
        .name("people".into())
        .spawn(move || runtime.block_on(keeper.run(jobs)))?;
    Ok(handle)
}

struct Keeper {
    core: Share,
    file: PeopleFile,
    hashes: Arc<Hashes>,
    /// The file that was looked at last.
    known: Option<Stamp>,
    /// What was wrong with it.
    problem: Option<String>,
}

impl Keeper {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        self.core
            .set_server(&format!("file://{}", self.file.path.display()));
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look(),
                job = jobs.recv() => match job {
                    None => return,
                    Some(Job::Account { done, .. }) => {
                        self.look();
                        let _ = done.try_send(self.problem.is_none());
                    }
                    // A file is always read as a whole.
                    Some(job @ Job::Find { .. }) => job.refuse(),
                    Some(Job::Refresh { done }) => {
                        self.known = None;
                        self.look();
                        let _ = done.try_send(self.problem.clone().map_or(Ok(()), Err));
                    }
                },
            }
        }
    }

    /// Takes the file if it is another one than before; one that is broken leaves what there was.
    fn look(&mut self) {
        let (stamp, asked) = (Stamp::of(&self.file.path), SystemTime::now());
        if self.known != Some(stamp) {
            self.known = Some(stamp);
            self.problem = self.take().err();
            self.core
                .set_problem(self.problem.as_deref().unwrap_or_default());
        } else if self.problem.is_none() {
            self.core.confirm(asked);
        }
    }

    fn take(&self) -> Result<(), String> {
        let people = People::read(&self.file).map_err(|error| chain(&error))?;
        self.core
            .set_replica(people.replica)
            .map_err(|error| chain(&error))?;
        self.hashes.replace(people.hashes);
        Ok(())
    }
}
