//! The directory server: bind, searches and changes, each with a deadline. The way there and what
//! entries mean do not live here.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ldap_link::{LinkError, Trust};
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::controls::{Control, ControlParser as _, ControlType, PostRead, PostReadResp};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Mod, Scope, SearchEntry,
    SearchOptions, StdStream,
};
use service::Secret;

use crate::entry::Entry;
use crate::error::{AdminError, Answer, cause};
use crate::plan::{Change, Kind, Step};
use crate::settings::Settings;

/// Entries asked for at a time (RFC 2696).
const PAGE: i32 = 500;

/// A bound connection.
pub struct Directory {
    ldap: Ldap,
    timeout: Duration,
    ending: Ending,
}

impl Directory {
    /// Connects and binds. With StartTLS or LDAPS nothing but the handshake is sent before the
    /// server's certificate has been checked.
    ///
    /// # Errors
    /// [`AdminError::Connect`], [`AdminError::Deadline`], [`AdminError::Trust`], or
    /// [`AdminError::Refused`] where the bind was.
    pub async fn open(settings: &Settings, password: &Secret<Vec<u8>>) -> Result<Self, AdminError> {
        let connect = async {
            let (stream, ending) = link(settings).await?;
            // The library is handed a local socket: the address and TLS are behind it.
            let how = LdapConnSettings::new().set_std_stream(StdStream::Unix(stream));
            match LdapConnAsync::with_settings(how, "ldapi:///").await {
                Ok((connection, ldap)) => Ok((connection, ldap, ending)),
                Err(error) => Err(AdminError::Connect {
                    uri: settings.uri.clone(),
                    source: cause(error),
                }),
            }
        };
        let (connection, ldap, ending) = match tokio::time::timeout(settings.timeout, connect).await
        {
            Ok(connected) => connected?,
            Err(_) => {
                return Err(AdminError::Deadline {
                    doing: format!("connect to '{}'", settings.uri),
                    limit: settings.timeout,
                });
            }
        };
        // Its end is seen by every waiting operation, so its result is not needed.
        tokio::spawn(connection.drive());
        let mut directory = Self {
            ldap,
            timeout: settings.timeout,
            ending,
        };
        directory.bind(&settings.bind_dn, password).await?;
        Ok(directory)
    }

    async fn bind(&mut self, dn: &str, password: &Secret<Vec<u8>>) -> Result<(), AdminError> {
        let unreadable = |kind, why: &str| AdminError::Password {
            dn: dn.into(),
            source: io::Error::new(kind, why),
        };
        let text = std::str::from_utf8(password.expose())
            .map_err(|_| unreadable(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        // An empty one would be an anonymous bind that succeeds (RFC 4513, 5.1.2).
        if text.is_empty() {
            return Err(unreadable(io::ErrorKind::InvalidData, "it is empty"));
        }
        let limit = self.timeout;
        let doing = format!("bind as '{dn}'");
        within(limit, &self.ending, doing, self.ldap.simple_bind(dn, text))
            .await
            .map(drop)
    }

    /// All entries at or below `base` that match `filter`, by pages.
    ///
    /// # Errors
    /// [`AdminError`] naming the search.
    pub async fn search(
        &mut self,
        base: &str,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Vec<Entry>, AdminError> {
        let ask = Ask {
            base,
            scope: Scope::Subtree,
            filter,
            attributes,
            most: None,
        };
        let (entries, result) = self.collect(&ask).await?;
        ask.judge(entries, result)
    }

    /// Entries at or below `base` that match `filter`, as many as `most` or the server's own limit
    /// allow, and whether there are more.
    ///
    /// # Errors
    /// [`AdminError`] naming the search.
    pub async fn search_some(
        &mut self,
        base: &str,
        filter: &str,
        attributes: &[&str],
        most: i32,
    ) -> Result<(Vec<Entry>, bool), AdminError> {
        const SIZE_LIMIT_EXCEEDED: u32 = 4;
        let ask = Ask {
            base,
            scope: Scope::Subtree,
            filter,
            attributes,
            most: Some(most),
        };
        let (entries, result) = self.collect(&ask).await?;
        if result.rc == SIZE_LIMIT_EXCEEDED {
            return Ok((entries, true));
        }
        ask.judge(entries, result).map(|entries| (entries, false))
    }

    /// The entry at `dn`, or none.
    ///
    /// # Errors
    /// [`AdminError`] naming the entry.
    pub async fn read(
        &mut self,
        dn: &str,
        attributes: &[&str],
    ) -> Result<Option<Entry>, AdminError> {
        let filter = "(objectClass=*)";
        let ask = Ask {
            base: dn,
            scope: Scope::Base,
            filter,
            attributes,
            most: None,
        };
        let (entries, result) = self.collect(&ask).await?;
        match ask.judge(entries, result) {
            Ok(entries) => Ok(entries.into_iter().next()),
            Err(error) if error.code() == Some(32) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn collect(&mut self, ask: &Ask<'_>) -> Result<(Vec<Entry>, LdapResult), AdminError> {
        let mut adapters: Vec<Box<dyn Adapter<_, _>>> = vec![Box::new(EntriesOnly::new())];
        let mut ldap = self.ldap.clone();
        if let Some(most) = ask.most {
            ldap.with_search_options(SearchOptions::new().sizelimit(most));
        } else if ask.scope == Scope::Subtree {
            adapters.push(Box::new(PagedResults::new(PAGE)));
        }
        let attributes: Vec<String> = ask.attributes.iter().map(|a| (*a).to_owned()).collect();
        let searching = async {
            let mut stream = ldap
                .streaming_search_with(adapters, ask.base, ask.scope, ask.filter, attributes)
                .await?;
            let mut entries = Vec::new();
            while let Some(entry) = stream.next().await? {
                entries.push(Entry::from(SearchEntry::construct(entry)));
            }
            Ok((entries, stream.finish().await))
        };
        // The limit is for the whole search; pages of a large directory get their share.
        let limit = self.timeout * 6;
        match tokio::time::timeout(limit, searching).await {
            Err(_) => Err(AdminError::Deadline {
                doing: ask.doing(),
                limit,
            }),
            Ok(Err(error)) => Err(broken(ask.doing(), error, &self.ending)),
            Ok(Ok(found)) => Ok(found),
        }
    }

    /// Makes one change.
    ///
    /// # Errors
    /// [`AdminError`] naming it. After [`AdminError::Deadline`] and [`AdminError::Broken`] it is not
    /// known whether it was made.
    pub async fn make(&mut self, step: &Step) -> Result<(), AdminError> {
        let (doing, limit) = (step.to_string(), self.timeout);
        let ldap = &mut self.ldap;
        let result = match step {
            Step::Add { dn, attributes } => {
                let attributes = attributes
                    .iter()
                    .map(|(name, values)| (name.as_bytes(), set(values)))
                    .collect();
                within(limit, &self.ending, doing, ldap.add(dn, attributes)).await
            }
            Step::Modify { dn, changes } => {
                let changes = changes.iter().map(modification).collect();
                within(limit, &self.ending, doing, ldap.modify(dn, changes)).await
            }
            Step::Delete { dn } => within(limit, &self.ending, doing, ldap.delete(dn)).await,
        };
        result.map(drop)
    }

    /// Adds `by` to each of `attributes` of the entry at `dn` in one step and returns the entry as
    /// it was right after (RFC 4525 and RFC 4527).
    ///
    /// # Errors
    /// [`AdminError`] naming the entry.
    pub async fn increment(
        &mut self,
        dn: &str,
        attributes: &[&str],
        by: u32,
    ) -> Result<Option<Entry>, AdminError> {
        let (doing, limit) = (format!("increment '{dn}'"), self.timeout);
        let by = by.to_string();
        let changes = attributes
            .iter()
            .map(|a| Mod::Increment(*a, by.as_str()))
            .collect();
        // Critical: a server that would increment and not tell must not increment.
        let mut control = PostRead::new(attributes.to_vec());
        control.crit = true;
        let ldap = self.ldap.with_controls(vec![control]);
        let result = within(limit, &self.ending, doing, ldap.modify(dn, changes)).await?;
        let read = result.ctrls.iter().find_map(|control| match control {
            Control(Some(ControlType::PostReadResp), raw) => raw.val.as_deref(),
            _ => None,
        });
        Ok(read.map(|value| {
            let PostReadResp { attrs, bin_attrs } = PostReadResp::parse(value);
            Entry::from(SearchEntry {
                dn: dn.into(),
                attrs,
                bin_attrs,
            })
        }))
    }

    /// Says goodbye, so that the server logs no broken connection.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(self.timeout, self.ldap.unbind()).await;
    }
}

/// One search.
struct Ask<'a> {
    base: &'a str,
    scope: Scope,
    filter: &'a str,
    attributes: &'a [&'a str],
    /// Entries that are enough; without it all are fetched, by pages.
    most: Option<i32>,
}

impl Ask<'_> {
    fn doing(&self) -> String {
        match self.scope {
            Scope::Base => format!("read '{}'", self.base),
            _ => format!("search below '{}'", self.base),
        }
    }

    fn judge(&self, entries: Vec<Entry>, result: LdapResult) -> Result<Vec<Entry>, AdminError> {
        match result.rc {
            0 => Ok(entries),
            _ => Err(AdminError::Refused {
                doing: self.doing(),
                answer: Answer::from(result),
            }),
        }
    }
}

/// Why the relay ended, once it has.
type Ending = Arc<Mutex<Option<String>>>;

async fn link(settings: &Settings) -> Result<(UnixStream, Ending), AdminError> {
    let failed = |error: LinkError| match error {
        LinkError::Trust { place, problem } => AdminError::Trust {
            from: place,
            source: std::io::Error::other(problem),
        },
        error => AdminError::Connect {
            uri: settings.uri.clone(),
            source: match error {
                LinkError::Connect { source, .. } | LinkError::Tls { source, .. } => source.into(),
                error => error.into(),
            },
        },
    };
    let server = settings
        .server
        .as_ref()
        .ok_or_else(|| AdminError::Connect {
            uri: settings.uri.clone(),
            source: "not the address of a server".into(),
        })?;
    let ending = Ending::default();
    let note = ending.clone();
    let ended = move |error: LinkError| {
        if let Ok(mut ending) = note.lock() {
            *ending = Some(service::exit::chain(&error));
        }
    };
    let trust = Trust {
        ca_file: settings.ca_file.as_deref(),
        identity: None,
    };
    let opened = ldap_link::open(server, settings.start_tls, trust, settings.timeout, ended).await;
    Ok((opened.map_err(failed)?, ending))
}

/// Waits for one operation; every result but success is an error.
async fn within(
    limit: Duration,
    ending: &Ending,
    doing: String,
    operation: impl Future<Output = Result<LdapResult, LdapError>>,
) -> Result<LdapResult, AdminError> {
    match tokio::time::timeout(limit, operation).await {
        Err(_) => Err(AdminError::Deadline { doing, limit }),
        Ok(Err(error)) => Err(broken(doing, error, ending)),
        Ok(Ok(result)) if result.rc != 0 => Err(AdminError::Refused {
            doing,
            answer: Answer::from(result),
        }),
        Ok(Ok(result)) => Ok(result),
    }
}

/// An operation that came to no answer. The relay knows better than the library why.
fn broken(doing: String, error: LdapError, ending: &Ending) -> AdminError {
    match error {
        LdapError::LdapResult { result } => AdminError::Refused {
            doing,
            answer: Answer::from(result),
        },
        error => {
            let known = ending.lock().ok().and_then(|ending| ending.clone());
            let source = known.map_or_else(|| cause(error), Into::into);
            AdminError::Broken { doing, source }
        }
    }
}

fn set(values: &[Vec<u8>]) -> HashSet<&[u8]> {
    values.iter().map(Vec::as_slice).collect()
}

fn modification(change: &Change) -> Mod<&[u8]> {
    let attribute = change.attribute.as_bytes();
    match change.kind {
        Kind::Add => Mod::Add(attribute, set(&change.values)),
        Kind::Delete => Mod::Delete(attribute, set(&change.values)),
    }
}
