//! Content synchronisation (RFC 4533) in bytes: the request, and what the server says in controls and
//! intermediate messages. The library's own readers of these panic on odd shapes; these refuse.

use ldap3::{
    Ldap, ResultEntry, Scope, SearchEntry, SearchOptions,
    asn1::PL,
    controls::{Control, MakeCritical, RefreshMode, SyncRequest},
};
use tokio::sync::{mpsc, watch};

use super::{LdapError, policy::element, search::Entry};
use crate::{
    content::{Event, Message},
    replica::{Part, Seen, Uuid},
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

/// State, UUID, cookie.
fn parse_state(value: &[u8]) -> Option<(u8, Uuid, Option<Vec<u8>>)> {
    let (0x30, content, []) = element(value)? else {
        return None;
    };
    let (0x0a, &[state], rest) = element(content)? else {
        return None;
    };
    let (0x04, uuid, rest) = element(rest)? else {
        return None;
    };
    let (cookie, []) = cookie(rest) else {
        return None;
    };
    Some((state, uuid.try_into().ok()?, cookie))
}

/// The value of a Sync Info message (RFC 4533 2.5).
fn parse_info(value: &[u8]) -> Option<Message> {
    let (tag, content, []) = element(value)? else {
        return None;
    };
    if tag == 0x80 {
        let cookie = Some(content.to_vec());
        let event = Event::Nothing;
        return Some(Message { event, cookie });
    }
    let (cookie, rest) = cookie(content);
    let (flag, rest) = match element(rest) {
        Some((0x01, &[flag], rest)) => (Some(flag != 0), rest),
        _ => (None, rest),
    };
    let event = match (tag, rest) {
        (0xa1 | 0xa2, []) => Event::Phase {
            present: tag == 0xa2,
            last: flag.unwrap_or(true),
        },
        (0xa3, set) => {
            let (0x31, mut set, []) = element(set)? else {
                return None;
            };
            let mut uuids = Vec::new();
            while !set.is_empty() {
                let (0x04, uuid, rest) = element(set)? else {
                    return None;
                };
                uuids.push(uuid.try_into().ok()?);
                set = rest;
            }
            match flag.unwrap_or(false) {
                true => Event::Gone(uuids),
                false => Event::Present(uuids),
            }
        }
        _ => return None,
    };
    Some(Message { event, cookie })
}

/// A cookie if there is one, and what follows.
fn cookie(bytes: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    match element(bytes) {
        Some((0x04, cookie, rest)) => (Some(cookie.to_vec()), rest),
        _ => (None, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let uuid = [7; 16];
        let value = |state: u8, cookie: &[u8]| {
            let body = [&[0x0a, 1, state, 0x04, 16][..], &uuid, cookie].concat();
            [&[0x30, body.len() as u8][..], &body].concat()
        };
        assert_eq!(parse_state(&value(3, b"")), Some((3, uuid, None)));
        assert_eq!(
            parse_state(&value(1, b"\x04\x01c")),
            Some((1, uuid, Some(b"c".to_vec())))
        );
        let whole = value(1, b"\x04\x01c");
        for length in 0..whole.len() {
            assert_eq!(parse_state(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse_state(b"\x30\x07\x0a\x01\x01\x04\x02ab"), None);
        assert_eq!(parse_state(&value(1, b"\x05\x00")), None);
    }

    #[test]
    fn infos() {
        let check = |bytes: &[u8], expected: &str| {
            let said = parse_info(bytes).map_or("none".to_owned(), |message| {
                format!("{:?} {:?}", message.event, message.cookie.map(|c| c.len()))
            });
            assert_eq!(said, expected, "{bytes:02x?}");
        };
        check(b"\x80\x02ab", "Nothing Some(2)");
        check(b"\xa1\x00", "Phase { present: false, last: true } None");
        check(
            b"\xa2\x03\x01\x01\x00",
            "Phase { present: true, last: false } None",
        );
        check(
            b"\xa2\x06\x04\x01c\x01\x01\xff",
            "Phase { present: true, last: true } Some(1)",
        );
        let one = "7, ".repeat(16);
        let one = one.trim_end_matches(", ");
        let set = [b"\x31\x12\x04\x10".as_slice(), &[7; 16]].concat();
        check(
            &[b"\xa3\x14", &set[..]].concat(),
            &format!("Present([[{one}]]) None"),
        );
        check(
            &[b"\xa3\x17\x01\x01\xff", &set[..]].concat(),
            &format!("Gone([[{one}]]) None"),
        );
        check(b"\xa3\x00", "none");
        check(b"\xa3\x04\x31\x02\x04\x00", "none");
        check(b"\xa4\x00", "none");
        check(b"\xa1\x02\x05\x00", "none");
        check(b"", "none");
    }
}
