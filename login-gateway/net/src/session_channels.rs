//! Session channels: what the client prepares (terminal, variables, display), and the program it starts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway_wire::policy::listed;
use gateway_wire::session::{ListenOn, Program as What, Pty, ToSession, WindowSize, X11};
use gateway_wire::timeout::kind;
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Sig};
use tokio::task::AbortHandle;

use crate::activity::{Activity, OpenChannel, OpenChannels};
use crate::channel::FromClient;
use crate::flow::Flow;
use crate::listeners::listen;
use crate::pause::Ending;
use crate::program::Program;
use crate::session_link::SessionLink;

/// Variables that one channel may set, as with sshd.
const MAX_ENV: usize = 129;
/// Bytes of one, with its name: more the kernel hands to no program (`MAX_ARG_STRLEN`, execve(2)).
const MAX_VARIABLE: usize = 128 * 1024 - 2;
/// Bytes of all of a channel, half of what the kernel takes by default.
const MAX_ENV_BYTES: usize = 1024 * 1024;
/// Bytes of variables that fit beside a command in one message.
const BESIDE: usize = 16 * 1024;

/// Session channels that are open or whose program still runs.
pub struct SessionChannels {
    session: SessionLink,
    flow: Flow,
    /// Of the connection.
    whole: Arc<Activity>,
    counted: OpenChannels,
    open: All,
}

type All = Arc<Mutex<HashMap<ChannelId, Open>>>;

fn lock(all: &All) -> MutexGuard<'_, HashMap<ChannelId, Open>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session channel as the client prepares it.
struct Open {
    number: u32,
    /// Until a program starts.
    idle: Option<Idle>,
    activity: Arc<Activity>,
    ending: Arc<Ending>,
    _counted: OpenChannel,
    pty: Option<Pty>,
    env: Vec<(String, String)>,
    x11: Option<X11>,
}

/// A channel without a program.
struct Idle {
    client: ChannelWriteHalf<Msg>,
    from: FromClient,
    /// Closes it if nothing is ever started.
    expiry: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(idle) = &self.idle {
            idle.expiry.abort();
        }
    }
}

/// Takes a channel on which nothing was started.
fn forget_idle(all: &All, channel: ChannelId) -> Option<Open> {
    let mut all = lock(all);
    let idle = all.get(&channel).is_some_and(|o| o.idle.is_some());
    idle.then(|| all.remove(&channel)).flatten()
}

impl SessionChannels {
    /// None yet.
    pub fn new(
        session: SessionLink,
        flow: Flow,
        whole: Arc<Activity>,
        counted: OpenChannels,
    ) -> Self {
        Self {
            session,
            flow,
            whole,
            counted,
            open: All::default(),
        }
    }

    /// Opens one, if the policy has room for it.
    pub async fn open(&self, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let id = channel.id();
        let open = lock(&self.open).len();
        // The first one need not wait for the policy: without room for it, its program is refused.
        let policy = if open == 0 {
            self.session.known_policy()
        } else {
            self.session.policy().await
        };
        let most = policy.map_or(usize::from(open == 0), |p| p.max_sessions as usize);
        if open >= most {
            // As sshd says it.
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return;
        }
        let (half, client) = channel.split();
        let activity = Activity::new(Some(self.whole.clone()));
        activity.moved();
        let from = FromClient::read(half, activity.clone());
        self.flow.watch(id, from.inbox.clone());
        let expiry = self.expire(id, activity.clone());
        let open = Open {
            number: self.session.number(),
            idle: Some(Idle {
                client,
                from,
                expiry,
            }),
            activity,
            ending: Arc::default(),
            _counted: self.counted.one(),
            pty: None,
            env: Vec::new(),
            x11: None,
        };
        lock(&self.open).insert(id, open);
        reply.accept().await;
    }

    /// Closes a channel on which nothing was started, when its time is over.
    fn expire(&self, channel: ChannelId, activity: Arc<Activity>) -> AbortHandle {
        let (all, flow, link) = (self.open.clone(), self.flow.clone(), self.session.clone());
        let expiry = tokio::spawn(async move {
            link.expired(&activity, kind::SESSION).await;
            let Some(mut open) = forget_idle(&all, channel) else {
                return;
            };
            flow.forget(channel);
            if let Some(x11) = &open.x11 {
                link.close(x11.listener);
            }
            // Not to be aborted by its own end.
            if let Some(idle) = open.idle.take() {
                let _ = idle.client.close().await;
            }
        });
        expiry.abort_handle()
    }

    /// Starts `what` on a channel, once; false if it cannot. What follows may be slow.
    pub fn start(&self, channel: ChannelId, what: What, handle: Handle) -> bool {
        let mut all = lock(&self.open);
        let Some(open) = all.get_mut(&channel) else {
            return false;
        };
        let Some(idle) = open.idle.take() else {
            return false;
        };
        idle.expiry.abort();
        let Idle { client, from, .. } = idle;
        let x11 = open.x11.take();
        let display = x11.as_ref().map(|x11| x11.listener);
        let program = Program {
            number: open.number,
            id: channel,
            client,
            from,
            handle,
            session: self.session.clone(),
            activity: open.activity.clone(),
            ending: open.ending.clone(),
            kind: match &what {
                What::Shell => kind::SHELL.to_owned(),
                What::Exec(_) => kind::COMMAND.to_owned(),
                What::Subsystem(name) => format!("{}{name}", kind::SUBSYSTEM),
            },
        };
        let mut env = Vec::new();
        let mut size = 0;
        for (name, value) in std::mem::take(&mut open.env) {
            size += name.len() + value.len();
            env.push((name, value));
            if size > BESIDE {
                let env = std::mem::take(&mut env);
                size = 0;
                let channel = open.number;
                self.session.tell(ToSession::Variables { channel, env });
            }
        }
        let start = ToSession::Start {
            channel: open.number,
            program: what,
            pty: open.pty.take(),
            env,
            x11,
        };
        drop(all);
        let (all, flow, link) = (self.open.clone(), self.flow.clone(), self.session.clone());
        tokio::spawn(async move {
            program.run(start).await;
            // russh says nothing of a channel that we close first.
            flow.forget(channel);
            lock(&all).remove(&channel);
            if let Some(display) = display {
                link.close(display);
            }
        });
        true
    }

    /// Gives a channel a terminal, once and before its program; false if it may not have one, nothing if
    /// there is no session: the words of its end are the answer then.
    pub async fn terminal(
        &self,
        channel: ChannelId,
        term: &str,
        size: WindowSize,
        modes: &[(russh::Pty, u32)],
    ) -> Option<bool> {
        let permitted = self.session.policy().await?.permit_tty;
        Some(match lock(&self.open).get_mut(&channel) {
            Some(open) if permitted && open.idle.is_some() && open.pty.is_none() => {
                let term = term.chars().filter(|c| c.is_ascii_graphic());
                let modes = modes.iter().map(|(mode, value)| (*mode as u8, *value));
                open.pty = Some(Pty {
                    term: term.take(64).collect(),
                    size,
                    modes: modes.collect(),
                });
                true
            }
            _ => false,
        })
    }

    /// Sets a variable for a channel's program; false if it may not, nothing if there is no session.
    pub async fn variable(&self, channel: ChannelId, name: &str, value: &str) -> Option<bool> {
        let policy = self.session.policy().await?;
        let allowed = listed(&policy.accept_env, name)
            && name.len() + value.len() <= MAX_VARIABLE
            && !name.contains(['=', '\0'])
            && !value.contains('\0');
        Some(match lock(&self.open).get_mut(&channel) {
            Some(open) if allowed && open.env.len() < MAX_ENV => {
                let all = open
                    .env
                    .iter()
                    .map(|(name, value)| name.len() + value.len());
                let fits = all.sum::<usize>() + name.len() + value.len() <= MAX_ENV_BYTES;
                if fits {
                    open.env.push((name.to_owned(), value.to_owned()));
                }
                fits
            }
            _ => false,
        })
    }

    /// Gives a channel's program a display, once; false if it may not have one.
    pub async fn display(
        &self,
        channel: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
    ) -> bool {
        let prepares = lock(&self.open)
            .get(&channel)
            .is_some_and(|open| open.idle.is_some() && open.x11.is_none());
        if !prepares {
            return false;
        }
        let listening = listen(&self.session, ListenOn::Display { single }).await;
        let Some((listener, _)) = listening else {
            return false;
        };
        if let Some(open) = lock(&self.open).get_mut(&channel) {
            open.x11 = Some(X11 {
                listener,
                protocol: protocol.to_owned(),
                cookie: cookie.to_owned(),
                screen,
            });
        }
        true
    }

    /// The terminal's new size, for its program or for the one that will be started.
    pub async fn resize(&self, channel: ChannelId, size: WindowSize) {
        let running = match lock(&self.open).get_mut(&channel) {
            Some(open) => match &mut open.pty {
                Some(pty) => {
                    pty.size = size;
                    None
                }
                None => open.idle.is_none().then_some(open.number),
            },
            None => None,
        };
        if let Some(number) = running {
            self.session.resize(number, size).await;
        }
    }

    /// A signal for a channel's program.
    pub fn signal(&self, channel: ChannelId, signal: Sig) {
        if let Some(open) = lock(&self.open).get(&channel) {
            let name = match signal {
                Sig::Custom(name) => name,
                named => format!("{named:?}"),
            };
            self.session.tell(ToSession::Signal {
                channel: open.number,
                name,
            });
        }
    }

    /// The client has sent EOF on a channel.
    pub fn ended(&self, channel: ChannelId) -> Option<Arc<Ending>> {
        let ending = lock(&self.open).get(&channel)?.ending.clone();
        ending.client_ended();
        Some(ending)
    }

    /// The client has closed a channel.
    pub fn closed(&self, channel: ChannelId) {
        // A running program keeps its place until it has taken what it was sent, or has ended.
        match forget_idle(&self.open, channel) {
            Some(open) => {
                self.flow.forget(channel);
                if let Some(x11) = &open.x11 {
                    self.session.close(x11.listener);
                }
            }
            None => self.flow.closed(channel),
        }
    }
}
