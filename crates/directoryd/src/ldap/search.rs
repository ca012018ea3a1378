//! One search: paged, bounded in time and number, without referrals.
//!
//! `ldap3` forgets its message numbers only with a plain streaming search that is finished, counts
//! time per entry, and sorts values by whether they happen to be UTF-8; all that is set right here.

use std::{collections::HashMap, time::Duration};

use ldap3::{
    Ldap, Scope, SearchEntry, SearchOptions,
    controls::{Control, ControlType, PagedResults},
};
use tokio::time::{Instant, timeout_at};

use super::LdapError;

/// Entries per page; Active Directory gives no more than this.
const PAGE: i32 = 1000;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The entry to start at.
    pub base: &'a str,
    /// How far below it.
    pub scope: Scope,
    /// Which entries (RFC 4515).
    pub filter: &'a str,
    /// Which attributes.
    pub attributes: &'a [&'a str],
    /// Most entries taken; one more is an error.
    pub most: usize,
    /// Time for all pages together.
    pub within: Duration,
}

/// One entry: DN, and values by attribute name in lower case without options.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As the server spells it.
    pub dn: String,
    values: HashMap<String, Vec<Vec<u8>>>,
    /// Attributes of which the server has given a part (`member;range=0-1499`): the name, and where to
    /// go on.
    pub partial: Vec<(String, usize)>,
}

impl Entry {
    /// An entry as the library has it.
    pub fn new(entry: SearchEntry) -> Self {
        let mut values: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        let mut partial = Vec::new();
        let text = entry.attrs.into_iter().map(|(name, values)| {
            (
                name,
                values
                    .into_iter()
                    .map(String::into_bytes)
                    .collect::<Vec<_>>(),
            )
        });
        for (name, found) in text.chain(entry.bin_attrs) {
            if let Some((base, next)) = rest_of_range(&name) {
                partial.push((base.to_owned(), next));
            }
            let name = name
                .split(';')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            values.entry(name).or_default().extend(found);
        }
        Self {
            dn: entry.dn,
            values,
            partial,
        }
    }

    /// An entry from elsewhere; the attributes' names in lower case, without options.
    pub fn of(dn: String, values: HashMap<String, Vec<Vec<u8>>>) -> Self {
        Self {
            dn,
            values,
            partial: Vec::new(),
        }
    }

    /// Adds what another answer says about the same entry.
    pub fn extend(&mut self, more: Self) {
        for (name, found) in more.values {
            self.values.entry(name).or_default().extend(found);
        }
        self.partial = more.partial;
    }

    /// All values of an attribute; `name` in lower case.
    pub fn all(&self, name: &str) -> &[Vec<u8>] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The first value, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.all(name).first()?).ok()
    }
}

/// Where to go on with an attribute of which the server has given a part (MS-ADTS 3.1.1.3.1.3.3).
fn rest_of_range(attribute: &str) -> Option<(&str, usize)> {
    let (name, options) = attribute.split_once(';')?;
    let range = options.split(';').find_map(|option| {
        option
            .get(..6)?
            .eq_ignore_ascii_case("range=")
            .then(|| &option[6..])
    })?;
    let (_, last) = range.split_once('-')?;
    Some((name, last.parse::<usize>().ok()?.checked_add(1)?))
}

impl Search<'_> {
    /// Runs it and returns all entries.
    ///
    /// # Errors
    /// [`LdapError`]; never a part of the entries.
    pub async fn run(&self, ldap: &mut Ldap) -> Result<Vec<Entry>, LdapError> {
        let mut entries = Vec::new();
        self.each(ldap, |entry| entries.push(entry)).await?;
        Ok(entries)
    }

    /// Runs it and gives each entry to `take` as it comes.
    ///
    /// # Errors
    /// [`LdapError`]; what was taken until then is a part and of no use.
    pub async fn each(&self, ldap: &mut Ldap, take: impl FnMut(Entry)) -> Result<(), LdapError> {
        let deadline = Instant::now() + self.within;
        timeout_at(deadline, self.pages(ldap, deadline, take))
            .await
            .unwrap_or(Err(LdapError::Deadline("search")))
    }

    async fn pages(
        &self,
        ldap: &mut Ldap,
        deadline: Instant,
        mut take: impl FnMut(Entry),
    ) -> Result<(), LdapError> {
        let action = || format!("search {} under '{}'", self.filter, self.base);
        let library = |source| match source {
            ldap3::LdapError::Timeout { .. } => LdapError::Deadline("search"),
            source => LdapError::Library {
                action: action(),
                source: Box::new(source),
            },
        };
        let mut count = 0;
        let mut cookie = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A single look-up needs no pages, and a limit instead tells of a second entry.
            let paged = self.most > PAGE as usize;
            let mut options =
                SearchOptions::new().timelimit(i32::try_from(left.as_secs()).unwrap_or(0).max(1));
            if paged {
                let control = PagedResults {
                    size: PAGE,
                    cookie: std::mem::take(&mut cookie),
                };
                ldap.with_controls(control);
            } else {
                options = options.sizelimit(i32::try_from(self.most).unwrap_or(0));
            }
            ldap.with_timeout(left).with_search_options(options);
            let mut stream = ldap
                .streaming_search(self.base, self.scope, self.filter, self.attributes)
                .await
                .map_err(library)?;
            while let Some(item) = stream.next().await.map_err(library)? {
                // A reference would lead elsewhere with our password in hand.
                if item.is_ref() || item.is_intermediate() {
                    continue;
                }
                if count == self.most {
                    return Err(LdapError::TooMany(self.most, self.base.to_owned()));
                }
                count += 1;
                take(Entry::new(SearchEntry::construct(item)));
            }
            let result = stream.finish().await;
            if result.rc != 0 {
                return Err(LdapError::Refused {
                    action: action(),
                    code: result.rc,
                    text: result.text,
                });
            }
            for Control(kind, raw) in result.ctrls {
                if matches!(kind, Some(ControlType::PagedResults)) && raw.val.is_some() {
                    cookie = raw.parse::<PagedResults>().cookie;
                }
            }
            if cookie.is_empty() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check =
            |attribute, expected| assert_eq!(rest_of_range(attribute), expected, "{attribute}");
        check("member", None);
        check("member;range=0-1499", Some(("member", 1500)));
        check("member;Range=1500-2999", Some(("member", 3000)));
        check("member;range=3000-*", None);
        check("member;binary", None);
        check("member;range=", None);
        check("member;rangé=1", None);
    }
}
