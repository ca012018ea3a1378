//! Content synchronisation (RFC 4533) over a connection: the request, and what the server says in controls and
//! intermediate messages.

use ldap3::{
    Ldap, ResultEntry, Scope, SearchEntry, SearchOptions,
    asn1::PL,
    controls::{Control, MakeCritical, RefreshMode, SyncRequest},
};
use tokio::sync::{mpsc, watch};

use super::{
    LdapError,
    search::Entry,
    sync_info::{parse_info, parse_state},
};
use crate::{
    content::{Event, Message},
    replica::{Part, Seen},
};

const STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
const INFO: &[u8] = b"1.3.6.1.4.1.4203.1.9.1.4";
/// Messages that wait until they are taken.
const MOST_WAITING: usize = 1024;

/// One part of what is kept in step.
pub struct Wanted {
    /// Which part.
    pub part: Part,
    /// Where its entries are.
    pub base: String,
    /// Which they are.
    pub filter: String,
    /// What is read of them.
    pub attributes: Vec<String>,
    /// Where to go on.
    pub cookie: Vec<u8>,
}

/// The messages about all parts, in the order of each. Dropped, it ends the searches.
pub struct Feed {
    messages: mpsc::Receiver<(Part, Result<Message, LdapError>)>,
    _stop: watch::Sender<()>,
}

impl Feed {
    /// Starts a search for each part. `read` says what an entry is.
    pub fn start<R>(ldap: &Ldap, wanted: Vec<Wanted>, read: R) -> Self
    where
        R: Fn(Part, Entry) -> Seen + Clone + Send + Sync + 'static,
    {
        let (sender, messages) = mpsc::channel(MOST_WAITING);
        let (_stop, stopped) = watch::channel(());
        for wanted in wanted {
            let (ldap, read, sender) = (ldap.clone(), read.clone(), sender.clone());
            let mut stopped = stopped.clone();
            tokio::spawn(async move {
                let part = wanted.part;
                if let Err(error) = follow(ldap, wanted, read, &sender, &mut stopped).await {
                    // Nobody may be left to hear it.
                    let _ = sender.send((part, Err(error))).await;
                }
            });
        }
        Self { messages, _stop }
    }

    /// The next messages, one at least; none if the feed has ended without an error.
    pub async fn next(&mut self) -> Vec<(Part, Result<Message, LdapError>)> {
        let mut messages = Vec::new();
        self.messages.recv_many(&mut messages, MOST_WAITING).await;
        messages
    }
}

async fn follow<R>(
    mut ldap: Ldap,
    wanted: Wanted,
    read: R,
    sender: &mpsc::Sender<(Part, Result<Message, LdapError>)>,
    stopped: &mut watch::Receiver<()>,
) -> Result<(), LdapError>
where
    R: Fn(Part, Entry) -> Seen + Send,
{
    let action = || {
        format!(
            "stay in step with {} under '{}'",
            wanted.filter, wanted.base
        )
    };
    let library = |source| LdapError::Library {
        action: action(),
        source: Box::new(source),
    };
    let request = SyncRequest {
        mode: RefreshMode::RefreshAndPersist,
        cookie: Some(wanted.cookie.clone()).filter(|cookie| !cookie.is_empty()),
        reload_hint: false,
    };
    ldap.with_controls(request.critical());
    ldap.with_search_options(SearchOptions::new());
    let mut stream = ldap
        .streaming_search(
            &wanted.base,
            Scope::Subtree,
            &wanted.filter,
            wanted.attributes.clone(),
        )
        .await
        .map_err(library)?;
    loop {
        let item = tokio::select! {
            // The other end is only ever dropped.
            _ = stopped.changed() => {
                let id = stream.ldap_handle().last_id();
                let _ = stream.ldap_handle().abandon(id).await;
                return Ok(());
            }
            item = stream.next() => item.map_err(library)?,
        };
        let Some(item) = item else {
            let result = stream.finish().await;
            return Err(LdapError::Refused {
                action: action(),
                code: result.rc,
                text: result.text,
            });
        };
        if item.is_ref() {
            continue;
        }
        let message = match item.is_intermediate() {
            true => info(item),
            false => entry(item, |entry| read(wanted.part, entry)),
        };
        let message = message.ok_or(LdapError::Feed)?;
        if sender.send((wanted.part, Ok(message))).await.is_err() {
            return Ok(());
        }
    }
}

/// An entry with its state (RFC 4533 2.2).
fn entry(item: ResultEntry, read: impl FnOnce(Entry) -> Seen) -> Option<Message> {
    let state = item.1.iter().find(|Control(_, raw)| raw.ctype == STATE)?;
    let (state, uuid, cookie) = parse_state(state.1.val.as_deref()?)?;
    let event = match state {
        0 => Event::Present(vec![uuid]),
        1 | 2 => {
            let mut seen = read(Entry::new(SearchEntry::construct(item)));
            // What the control says is what later messages go by.
            seen.uuid = Some(uuid);
            Event::Put(uuid, seen)
        }
        3 => Event::Gone(vec![uuid]),
        _ => return None,
    };
    Some(Message { event, cookie })
}

fn info(item: ResultEntry) -> Option<Message> {
    let PL::C(parts) = item.0.payload else {
        return None;
    };
    let mut value = None;
    for part in parts {
        match (part.id, part.payload) {
            (0, PL::P(name)) if name == INFO => {}
            (1, PL::P(bytes)) => value = Some(bytes),
            _ => return None,
        }
    }
    parse_info(&value?)
}
