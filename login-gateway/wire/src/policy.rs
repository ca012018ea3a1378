//! What one login may do: the types of policy keys, which `[[match]]` blocks hold for whom, and how
//! a key's own restrictions narrow the result. Pure functions of the settings; nothing is read.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::monitor::Method;
use crate::settings::{Match, Policy, Settings};

/// A way in: methods to pass, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Way(pub Vec<Method>);

/// Factors that one way may ask for.
const MAX_FACTORS: usize = 8;

impl TryFrom<String> for Way {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let named = |name: &str| Method::ALL.into_iter().find(|method| method.name() == name);
        let methods: Option<Vec<Method>> = text.split(',').map(|name| named(name.trim())).collect();
        match methods {
            Some(methods) if methods.len() <= MAX_FACTORS => Ok(Self(methods)),
            Some(_) => Err(format!("'{text}' asks for more than {MAX_FACTORS} factors")),
            None => Err(format!(
                "'{text}' is not a list of \"publickey\", \"password\" and \"keyboard-interactive\""
            )),
        }
    }
}

impl From<Way> for String {
    fn from(way: Way) -> Self {
        let names: Vec<&str> = way.0.iter().map(|method| method.name()).collect();
        names.join(",")
    }
}

/// Which directions of forwarding are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// None.
    No,
    /// From the client's side to ours: `ssh -L`, `ssh -D`, `ssh -W`.
    Local,
    /// From our side to the client's: `ssh -R`.
    Remote,
    /// Both.
    Yes,
}

impl Forwarding {
    /// Whether `ssh -L` is allowed.
    pub fn local(self) -> bool {
        matches!(self, Self::Local | Self::Yes)
    }

    /// Whether `ssh -R` is allowed.
    pub fn remote(self) -> bool {
        matches!(self, Self::Remote | Self::Yes)
    }
}

/// Where forwarded ports listen, `GatewayPorts` of sshd_config(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayPorts {
    /// On loopback, whatever the client asks for.
    No,
    /// On all addresses.
    Yes,
    /// Where the client asks.
    ClientSpecified,
}

/// A file mode creation mask, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Umask(pub u32);

impl TryFrom<String> for Umask {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match u32::from_str_radix(&text, 8) {
            Ok(mask) if mask <= 0o777 => Ok(Self(mask)),
            _ => Err(format!("'{text}' is not an octal number up to 777")),
        }
    }
}

impl From<Umask> for String {
    fn from(mask: Umask) -> Self {
        mask.to_string()
    }
}

impl fmt::Display for Umask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

/// Who logs in, as far as policy looks.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The account's name.
    pub user: &'a str,
    /// Names of its groups.
    pub groups: &'a [String],
    /// The client.
    pub source: IpAddr,
    /// What it connected to, as far as that is known.
    pub destination: Option<SocketAddr>,
}

impl Settings {
    /// What holds for this login.
    pub fn policy(&self, who: &Who<'_>) -> Policy {
        self.complete(self.resolve(|block| block.fits(&self.pool, who)))
    }

    /// Places of the blocks that hold for this login, in their order.
    pub fn fitting(&self, who: &Who<'_>) -> Vec<usize> {
        let blocks = self.r#match.iter().enumerate();
        let fitting = blocks.filter(|(_, block)| block.fits(&self.pool, who));
        fitting.map(|(at, _)| at).collect()
    }
}

impl Match {
    fn fits(&self, pool: &str, who: &Who<'_>) -> bool {
        let source = who.source.to_canonical();
        let named = |patterns: &[String], name: &str| patterns.is_empty() || listed(patterns, name);
        named(&self.user, who.user)
            && named(&self.pool, pool)
            && (self.group.is_empty() || any_listed(&self.group, who.groups))
            && (self.source.is_empty() || self.source.iter().any(|net| net.contains(&source)))
            && (self.destination.is_empty()
                || who.destination.is_some_and(|to| {
                    let address = to.ip().to_canonical();
                    self.destination.iter().any(|net| net.contains(&address))
                }))
            && (self.destination_port.is_empty()
                || who
                    .destination
                    .is_some_and(|to| self.destination_port.contains(&to.port())))
    }
}

/// What a key or a certificate takes away from, or adds to, its owner's login.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restrictions {
    /// `command=`, or the critical option `force-command`.
    pub command: Option<String>,
    /// Whether a terminal is left.
    pub tty: bool,
    /// Whether `~/.ssh/rc` is left.
    pub user_rc: bool,
    /// Whether agent forwarding is left.
    pub agent_forwarding: bool,
    /// Whether X11 forwarding is left.
    pub x11_forwarding: bool,
    /// Whether forwarding of ports and sockets is left.
    pub port_forwarding: bool,
    /// `permitopen=`; empty: as the policy has it.
    pub permit_open: Vec<String>,
    /// `permitlisten=`; empty: as the policy has it.
    pub permit_listen: Vec<String>,
    /// `environment=`; the policy says which of them count.
    pub environment: Vec<(String, String)>,
}

impl Default for Restrictions {
    fn default() -> Self {
        Self {
            command: None,
            tty: true,
            user_rc: true,
            agent_forwarding: true,
            x11_forwarding: true,
            port_forwarding: true,
            permit_open: Vec::new(),
            permit_listen: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// Two sources of restrictions force different commands on one login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key and certificate force different commands")]
pub struct CommandsDiffer;

impl Restrictions {
    /// What is left when both hold, a line's and a certificate's or those of several keys: never
    /// wider than either. Lists of addresses are those of the first that has one; two different
    /// lists leave no address.
    ///
    /// # Errors
    /// [`CommandsDiffer`].
    pub fn and(mut self, other: Self) -> Result<Self, CommandsDiffer> {
        if self.command.is_some() && other.command.is_some() && self.command != other.command {
            return Err(CommandsDiffer);
        }
        let both =
            |mine: Vec<String>, theirs: Vec<String>| match (mine.is_empty(), theirs.is_empty()) {
                (true, _) => theirs,
                (_, true) => mine,
                _ if mine == theirs => mine,
                _ => {
                    let shared: Vec<String> = mine
                        .into_iter()
                        .filter(|entry| theirs.contains(entry))
                        .collect();
                    // An empty list would mean that everything is open.
                    if shared.is_empty() {
                        vec!["none".to_owned()]
                    } else {
                        shared
                    }
                }
            };
        self.command = self.command.or(other.command);
        self.tty &= other.tty;
        self.user_rc &= other.user_rc;
        self.agent_forwarding &= other.agent_forwarding;
        self.x11_forwarding &= other.x11_forwarding;
        self.port_forwarding &= other.port_forwarding;
        self.permit_open = both(self.permit_open, other.permit_open);
        self.permit_listen = both(self.permit_listen, other.permit_listen);
        for (name, value) in other.environment {
            if !self.environment.iter().any(|(known, _)| *known == name) {
                self.environment.push((name, value));
            }
        }
        Ok(self)
    }
}

impl Policy {
    /// The policy of a login with a key that carries these restrictions: never wider than either.
    /// The policy's own command stands before the key's, as in sshd_config(5) `ForceCommand`. What a
    /// key adds to the environment stays with the key: PAM's variables stand above it.
    pub fn restrict(&mut self, key: &Restrictions) {
        if let (true, Some(command)) = (self.force_command.is_empty(), &key.command) {
            self.force_command.clone_from(command);
        }
        self.permit_tty &= key.tty;
        self.permit_user_rc &= key.user_rc;
        self.agent_forwarding &= key.agent_forwarding;
        self.x11_forwarding &= key.x11_forwarding;
        if !key.port_forwarding {
            self.tcp_forwarding = Forwarding::No;
            self.stream_local_forwarding = Forwarding::No;
        }
    }
}

/// Whether a name fits a list of patterns: one fits, and none that starts with `!` does, as
/// "PATTERNS" of ssh_config(5).
pub fn listed(patterns: &[String], name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(excluded) if fits(excluded, name) => return false,
            Some(_) => {}
            None => found |= fits(pattern, name),
        }
    }
    found
}

/// Whether one of the names fits, and none is excluded.
fn any_listed(patterns: &[String], names: &[String]) -> bool {
    let excluded = |name: &String| {
        patterns
            .iter()
            .filter_map(|pattern| pattern.strip_prefix('!'))
            .any(|pattern| fits(pattern, name))
    };
    !names.iter().any(excluded) && names.iter().any(|name| listed(patterns, name))
}

/// `*` stands for any characters, `?` for one.
pub fn fits(pattern: &str, name: &str) -> bool {
    // Where to go on when the characters after the last `*` do not fit: the `*` takes one more.
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    fn who<'a>(user: &'a str, groups: &'a [String], source: &str) -> Who<'a> {
        Who {
            user,
            groups,
            source: source.parse().unwrap(),
            destination: None,
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("LC_*", "LC_ALL", true),
            ("LC_*", "LC", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*c", "xxaxbxbxc", true),
            ("*a*b", "xxbxa", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        let list = ["svc-*".to_owned(), "!svc-root".to_owned()];
        assert!(listed(&list, "svc-x") && !listed(&list, "svc-root") && !listed(&list, "x"));
        assert!(!listed(&["!a".to_owned()], "b"));
        // The time of a pattern of many stars stays in bounds.
        assert!(!fits(&"*a".repeat(40), &"a".repeat(39)));
    }

    #[test]
    fn for_each_key_the_first_block_that_fits_and_names_it_counts() {
        let settings = settings(
            r#"
            tcp-forwarding = "local"
            pool = "gpu"
            [[match]]
            user = ["bob"]
            permit-tty = false
            [[match]]
            group = ["staff", "!guests"]
            source = ["10.0.0.0/8"]
            tcp-forwarding = "yes"
            permit-tty = true
            umask = "027"
            [[match]]
            pool = ["cpu"]
            x11-forwarding = false
            "#,
        );
        let staff = ["staff".to_owned()];
        let both = ["staff".to_owned(), "guests".to_owned()];
        let inside = settings.policy(&who("bob", &staff, "::ffff:10.1.2.3"));
        assert_eq!(inside.tcp_forwarding, Forwarding::Yes);
        assert!(!inside.permit_tty && inside.x11_forwarding);
        assert_eq!(inside.umask, Some(Umask(0o027)));
        let outside = settings.policy(&who("alice", &staff, "192.0.2.1"));
        assert_eq!(outside.tcp_forwarding, Forwarding::Local);
        assert!(outside.permit_tty && outside.umask.is_none());
        let excluded = settings.policy(&who("alice", &both, "10.1.2.3"));
        assert_eq!(excluded.tcp_forwarding, Forwarding::Local);
    }

    #[test]
    fn where_the_client_connected_to() {
        let settings = settings(
            "[[match]]\ndestination = [\"10.0.0.0/8\"]\ndestination-port = [22, 2222]\npermit-tty = false\n",
        );
        let terminal = |to: Option<&str>| {
            let mut who = who("a", &[], "::1");
            who.destination = to.map(|to| to.parse().unwrap());
            settings.policy(&who).permit_tty
        };
        assert!(!terminal(Some("10.1.2.3:2222")) && !terminal(Some("[::ffff:10.1.2.3]:22")));
        assert!(terminal(Some("10.1.2.3:23")) && terminal(Some("192.0.2.1:22")) && terminal(None));
    }

    #[test]
    fn a_key_narrows_and_never_widens() {
        let mut policy =
            settings(r#"permit-user-environment = ["OK"]"#).policy(&who("a", &[], "::1"));
        policy.restrict(&Restrictions {
            command: Some("date".into()),
            tty: false,
            port_forwarding: false,
            environment: vec![("OK".into(), "1".into()), ("LD_PRELOAD".into(), "x".into())],
            ..Restrictions::default()
        });
        assert_eq!(policy.force_command, "date");
        assert!(!policy.permit_tty && policy.permit_user_rc);
        assert_eq!(policy.tcp_forwarding, Forwarding::No);
        let mut forced = settings(r#"force-command = "id""#).policy(&who("a", &[], "::1"));
        forced.restrict(&Restrictions {
            command: Some("date".into()),
            ..Restrictions::default()
        });
        assert_eq!(forced.force_command, "id");
    }

    #[test]
    fn restrictions_of_two_sources_narrow_each_other() {
        let line = Restrictions {
            tty: false,
            permit_open: vec!["a:1".into(), "b:2".into()],
            environment: vec![("A".into(), "1".into())],
            ..Restrictions::default()
        };
        let certificate = Restrictions {
            command: Some("date".into()),
            agent_forwarding: false,
            permit_open: vec!["b:2".into()],
            environment: vec![("A".into(), "2".into())],
            ..Restrictions::default()
        };
        let both = line.clone().and(certificate.clone()).unwrap();
        assert_eq!(both.command.as_deref(), Some("date"));
        assert!(!both.tty && !both.agent_forwarding && both.x11_forwarding);
        assert_eq!(both.permit_open, ["b:2"]);
        assert_eq!(both.environment, [("A".to_owned(), "1".to_owned())]);
        let elsewhere = Restrictions {
            permit_open: vec!["c:3".into()],
            ..Restrictions::default()
        };
        assert_eq!(line.clone().and(elsewhere).unwrap().permit_open, ["none"]);
        let other = Restrictions {
            command: Some("id".into()),
            ..Restrictions::default()
        };
        assert_eq!(certificate.and(other), Err(CommandsDiffer));
    }

    #[test]
    fn ways() {
        let way = Way::try_from("publickey, keyboard-interactive".to_owned()).unwrap();
        assert_eq!(way.0, [Method::PublicKey, Method::KeyboardInteractive]);
        assert_eq!(String::from(way), "publickey,keyboard-interactive");
        for bad in ["", "publickey,", "hostbased", "any", &"password,".repeat(9)] {
            assert!(Way::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn umasks() {
        assert_eq!(Umask::try_from("077".to_owned()), Ok(Umask(0o077)));
        for bad in ["", "8", "1000", "-1", "u=rwx"] {
            assert!(Umask::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
