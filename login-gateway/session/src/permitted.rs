//! Lists of addresses that may be forwarded: `permit-open` and `permit-listen`, of the policy and of
//! the login's key, compared as sshd_config(5) and sshd(8) say. Text alone; nothing is resolved.

use gateway_wire::policy::fits;

/// Whether both lists let a connection to this address through. An empty list of the key's is none.
///
/// Names are compared as the client wrote them: what a name resolves to is not looked at.
pub fn open(policy: &[String], key: &[String], host: &str, port: u16) -> bool {
    let allows = |list: &[String]| {
        list.iter().filter_map(|entry| parse(entry)).any(|entry| {
            (entry.host == "*" || entry.host.eq_ignore_ascii_case(host)) && entry.takes(port)
        })
    };
    both(policy, key, allows)
}

/// Whether both lists let a listener on this address through. Hosts are patterns here; a client
/// that names no address asks for the empty one, or for `localhost`.
pub fn listen(policy: &[String], key: &[String], address: &str, port: u16) -> bool {
    let address = address.to_ascii_lowercase();
    let allows = |list: &[String]| {
        list.iter()
            .filter_map(|entry| parse(entry))
            .any(|entry| fits(entry.host, &address) && entry.takes(port))
    };
    both(policy, key, allows)
}

/// Whether neither list restricts anything. Sockets in the file system have no address to compare,
/// so a list of addresses lets none of them through.
pub fn anything(policy: &[String], key: &[String]) -> bool {
    both(policy, key, |list| {
        list.iter()
            .filter_map(|entry| parse(entry))
            .any(|entry| entry.host == "*" && entry.port.is_none())
    })
}

fn both(policy: &[String], key: &[String], allows: impl Fn(&[String]) -> bool) -> bool {
    allows(policy) && (key.is_empty() || allows(key))
}

#[derive(Debug, PartialEq)]
struct Entry<'a> {
    host: &'a str,
    /// `None` is any.
    port: Option<u16>,
}

impl Entry<'_> {
    fn takes(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }
}

/// `host:port`, `[v6]:port`, a port alone, or `any`; everything else, `none` above all, fits nothing.
fn parse(entry: &str) -> Option<Entry<'_>> {
    if entry == "any" {
        return Some(Entry {
            host: "*",
            port: None,
        });
    }
    let (host, port) = match entry.strip_prefix('[').and_then(|e| e.split_once("]:")) {
        Some(bracketed) => bracketed,
        None => entry.rsplit_once(':').unwrap_or(("*", entry)),
    };
    let port = match port {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    Some(Entry { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|&e| e.to_owned()).collect()
    }

    #[test]
    fn connections() {
        for (entries, host, port, expected) in [
            (&["*:*"][..], "db", 5432, true),
            (&["any"], "db", 5432, true),
            (&["none"], "db", 5432, false),
            (&[], "db", 5432, false),
            (&["db:5432"], "db", 5432, true),
            (&["db:5432"], "DB", 5432, true),
            (&["db:5432"], "db", 5433, false),
            (&["db:5432"], "db.example", 5432, false),
            (&["*:5432"], "db", 5432, true),
            (&["db:*"], "db", 1, true),
            (&["d*:*"], "db", 1, false),
            (&["[::1]:80"], "::1", 80, true),
            (&["[::1]:80"], "::1", 81, false),
            (&["a:1", "b:2"], "b", 2, true),
            (&["db:http"], "db", 80, false),
            (&["db:65536"], "db", 0, false),
            (&["80"], "db", 80, true),
        ] {
            assert_eq!(
                open(&list(entries), &[], host, port),
                expected,
                "{entries:?} {host} {port}"
            );
        }
    }

    #[test]
    fn listeners() {
        for (entries, address, port, expected) in [
            (&["*:*"][..], "", 8080, true),
            (&["8080"], "", 8080, true),
            (&["8080"], "0.0.0.0", 8080, true),
            (&["8080"], "", 0, false),
            (&["localhost:8080"], "localhost", 8080, true),
            (&["localhost:8080"], "", 8080, false),
            (&["local*:*"], "LOCALHOST", 8080, true),
            (&["none"], "", 8080, false),
        ] {
            assert_eq!(
                listen(&list(entries), &[], address, port),
                expected,
                "{entries:?} {address} {port}"
            );
        }
    }

    #[test]
    fn both_lists_must_agree() {
        let (wide, narrow) = (list(&["*:*"]), list(&["db:1"]));
        assert!(open(&wide, &narrow, "db", 1) && open(&narrow, &wide, "db", 1));
        assert!(!open(&wide, &narrow, "db", 2) && !open(&narrow, &wide, "db", 2));
        assert!(!open(&wide, &list(&["none"]), "db", 1));
        assert!(anything(&wide, &[]) && anything(&wide, &list(&["any"])));
        assert!(!anything(&wide, &narrow) && !anything(&narrow, &[]) && !anything(&[], &[]));
    }
}
