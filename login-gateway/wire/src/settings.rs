//! The gateway's configuration as a typed value: read from TOML once by the listener, handed to
//! every other process as it is. The same definition serves the file, its man page and all
//! processes, so no process has keys of its own.
//!
//! Keys are of two kinds: what holds for the service, and what holds for a login. The latter may
//! also stand in a `[[match]]` block.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::crypto::CryptoPolicy;
use crate::doors::{EarlyDrop, NetBlockSize, Penalties};
use crate::monitor::Method;
use crate::policy::{Forwarding, GatewayPorts, Umask, Way};
use crate::timeout::{ChannelTimeout, Time};

/// Most bytes of a banner: it is one packet, and OpenSSH's client takes 256 KiB at once.
pub const MAX_BANNER: u64 = 255 * 1024;
/// So many every client takes, RFC 4253 section 6.1.
pub const EVERYBODYS_BANNER: usize = 32_000;

/// A key of the configuration file, for its man page.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key with `_` where the file has `-`.
    pub field: &'static str,
    /// Its type in Rust, as written below.
    pub kind: &'static str,
    /// What it means, a paragraph per empty line.
    pub lines: &'static [&'static str],
    /// Whether it may stand in a `[[match]]` block.
    pub login: bool,
}

/// Defines [`Settings`], [`Policy`], [`Match`] and [`KEYS`] from one list.
macro_rules! settings {
    (
        service {
            $($(#[doc = $doc:literal])+ $(#[serde($($serde:tt)+)])? $field:ident: $type:ty = $default:expr;)+
        }
        login {
            $($(#[doc = $ldoc:literal])+ $lfield:ident: $ltype:ty = $ldefault:expr;)+
        }
    ) => {
        /// What `login-gateway.toml` says; see login-gateway.toml(5).
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct Settings {
            $($(#[doc = $doc])+ $(#[serde($($serde)+)])? pub $field: $type,)+
            $($(#[doc = $ldoc])+ pub $lfield: $ltype,)+
            /// Blocks that hold for some logins only. For each key the first block that matches
            /// and names it counts, then the value above all blocks.
            pub r#match: Vec<Match>,
        }

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    $($field: $default,)+
                    $($lfield: $ldefault,)+
                    r#match: Vec::new(),
                }
            }
        }

        /// What holds for one login.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct Policy {
            $($(#[doc = $ldoc])+ pub $lfield: $ltype,)+
        }

        /// A `[[match]]` block: it holds for a login that fits every criterion it names. A pattern
        /// may hold `*` and `?`; one that starts with `!` excludes.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct Match {
            /// Patterns of user names.
            pub user: Vec<String>,
            /// Patterns of names of groups; one of the user's groups must fit.
            pub group: Vec<String>,
            /// Networks of clients.
            #[serde(deserialize_with = "crate::address::networks")]
            pub source: Vec<IpNet>,
            /// Networks of the address that the client connected to.
            #[serde(deserialize_with = "crate::address::networks")]
            pub destination: Vec<IpNet>,
            /// Ports that the client connected to.
            pub destination_port: Vec<u16>,
            /// Patterns of the pool's name, the key `pool`.
            pub pool: Vec<String>,
            $($(#[doc = $ldoc])+ pub $lfield: Option<$ltype>,)+
        }

        impl Settings {
            /// What holds for a login that the blocks chosen by `fits` hold for.
            pub(crate) fn resolve(&self, fits: impl Fn(&Match) -> bool) -> Policy {
                let blocks: Vec<&Match> = self.r#match.iter().filter(|block| fits(block)).collect();
                Policy {
                    $($lfield: blocks.iter().find_map(|block| block.$lfield.clone())
                        .unwrap_or_else(|| self.$lfield.clone()),)+
                }
            }
        }

        /// Every key in the order of the man page, the criteria of `[[match]]` left out.
        pub const KEYS: &[Key] = &[
            $(Key { field: stringify!($field), kind: stringify!($type), lines: &[$($doc),+], login: false },)+
            $(Key { field: stringify!($lfield), kind: stringify!($ltype), lines: &[$($ldoc),+], login: true },)+
        ];
    };
}

settings! {
    service {
        /// Addresses on which SSH is served. An IPv6 address takes IPv6 alone; for both write both.
        listen: Vec<SocketAddr> = vec![SocketAddr::from(([0, 0, 0, 0], 22))];
        /// Address of the HTTP endpoint with /healthz, /readyz and /metrics. Left out: none.
        health_listen: Option<SocketAddr> = None;
        /// Name of this pool of login nodes, for `[[match]]` blocks that several pools share.
        pool: String = "default".into();
        /// Private host keys in OpenSSH's format without passphrase, readable by root alone.
        host_keys: Vec<PathBuf> = vec!["/etc/login-gateway/keys/ssh_host_ed25519_key".into()];
        /// Certificates of host keys, made by ssh-keygen -h.
        host_certificates: Vec<PathBuf> = Vec::new();
        /// Which algorithms are spoken, and, unless other keys say so, which keys and signatures are taken
        /// from users and their authorities: "modern", "compatible" or "fips-140-3".
        crypto_policy: CryptoPolicy = CryptoPolicy::Modern;
        /// Bytes in one direction after which new session keys are made, at most 1 GiB.
        rekey_bytes: u32 = 1 << 30;
        /// Time after which new session keys are made.
        #[serde(with = "service::config::duration")]
        rekey_interval: Duration = Duration::from_secs(3600);
        /// Text file that a client is shown before it authenticates, up to 255 KiB of UTF-8; PuTTY and
        /// clients with libssh2 take 32,000 bytes. Left out: none.
        banner: Option<PathBuf> = None;
        /// The account without rights under which connections are accepted and SSH is spoken.
        user: Option<String> = Some("gateway".into());
        /// Empty folder, owned by root, that becomes the root of those processes.
        empty_root: PathBuf = "/var/empty".into();
        /// From the connection to the end of authentication.
        #[serde(with = "service::config::duration")]
        login_grace_time: Duration = Duration::from_secs(60);
        /// Silence after which a client is asked whether it lives; keep it below the load
        /// balancer's idle time-out.
        #[serde(with = "service::config::duration")]
        keepalive_interval: Duration = Duration::from_secs(30);
        /// Unanswered questions after which the connection is closed.
        keepalive_count_max: usize = 4;
        /// Authentication attempts per connection.
        max_auth_tries: usize = 6;
        /// Connections that have not yet authenticated, at one time; further ones are closed.
        max_startups: usize = 100;
        /// Closes some connections at random before that: from `start` unfinished ones on (0 for never)
        /// `rate` percent, growing evenly to all of them at max-startups.
        early_drop: EarlyDrop = EarlyDrop::default();
        /// Unfinished connections of one source; further ones are closed, so that no source takes all of
        /// max-startups. 0 for no such limit. Left out: two thirds of max-startups, at least 64.
        per_source_max_startups: Option<usize> = None;
        /// Bits of an address, `ipv4` and `ipv6`, that tell one source from another.
        per_source_net_block_size: NetBlockSize = NetBlockSize::default();
        /// Whose connections fail is kept out for a time (unless not `enabled`). Each failure adds its
        /// own: `crash` of a process that serves it, `auth-fail`, `invalid-user`, `no-auth` (nothing
        /// was tried), `grace-exceeded`, `refuse-connection`. Connections are closed once more than
        /// `min` has come together, for `max` at most; time fades it. `max-sources4` and
        /// `max-sources6` are remembered; then the one that ends first is forgotten (`overflow` and
        /// `overflow6` "permissive") or nobody else gets in ("deny-all"). `exempt` networks and load
        /// balancers (proxy-protocol) have no penalties.
        penalties: Penalties = Penalties::default();
        /// From SIGTERM to the end of logins that are left, "0s" for none: the gateway ends with the last
        /// login. Users are told on their terminals.
        #[serde(with = "service::config::duration")]
        drain_time: Duration = Duration::ZERO;
        /// Why, in a few words for those users.
        drain_reason: String = String::new();
        /// Socket for root's commands: login-gateway sessions, status, drain. Its folder must exist. Left
        /// out: /run/login-gateway/control.sock; empty: none.
        #[serde(with = "empty_is_no_path")]
        control_socket: Option<PathBuf> = Some("/run/login-gateway/control.sock".into());
        /// Pairs of processes (monitor, net) kept ready for the next connections.
        warm: usize = 2;
        /// PAM service, a file in /etc/pam.d: account and session for every login, authentication
        /// for passwords and keyboard-interactive. Empty: no PAM.
        #[serde(with = "empty_is_none")]
        pam_service: Option<String> = Some("login-gateway".into());
        /// Control socket of directoryd: keys and account state from the directory. Left out: no
        /// directory.
        directory_socket: Option<PathBuf> = None;
        /// Time that asking it may take during a login.
        #[serde(with = "service::config::duration")]
        directory_timeout: Duration = Duration::from_secs(1);
        /// How often the directory is asked whether users who are logged in still may be; logins of those
        /// whom it has refused twice in a row are ended. "0s": never.
        #[serde(with = "service::config::duration")]
        account_interval: Duration = Duration::from_secs(60);
        /// Control group of version 2 that is delegated to the gateway, such as
        /// /sys/fs/cgroup/system.slice/login-gateway.service with Delegate=yes. All programs of a user are
        /// then in one group below it, user-UID. Left out: none.
        cgroup: Option<PathBuf> = None;
        /// Folder of recorded terminals; root's, closed to other writers.
        recordings: PathBuf = "/var/log/login-gateway/recordings".into();
        /// Folder of what users with private-tmp find in /tmp and /var/tmp, made when it is not there; root's,
        /// closed to other writers. Nothing is ever removed from it.
        private_tmp_folder: PathBuf = "/var/lib/login-gateway/tmp".into();
        /// File to which a trace of each login is appended, step by step, a line of OTLP's JSON each, for the
        /// receiver `otlpjsonfile` of an OpenTelemetry collector. Left out: none.
        traces: Option<PathBuf> = None;
        /// Whether the first login makes the home.
        make_home: bool = true;
        /// What a new home starts with.
        skel: PathBuf = "/etc/skel".into();
        /// Whether terminals are entered in utmp, wtmp and lastlog.
        login_records: bool = true;
        /// Networks of load balancers that put a PROXY protocol header, version 1 or 2, before each
        /// connection (`from`), and whether a connection from there without one is closed
        /// (`required`). Left out: no header is read from anybody.
        proxy_protocol: ProxyProtocol = ProxyProtocol::default();
        /// An account for the day when nothing else works: `user`, its `authorized-keys` file and
        /// the networks it may come from (`source`). It needs no directory and no home, and each
        /// use is an error in the log. Left out: none.
        break_glass: Option<BreakGlass> = None;
    }
    login {
        /// Whether the user may log in at all.
        allow_login: bool = true;
        /// Whether the connection is ended as soon as the user is named.
        refuse_connection: bool = false;
        /// Logins that the user may have at one time on this node; 0 for any number.
        max_logins: u32 = 0;
        /// Ways in, each a list of methods to pass in that order, joined by commas:
        /// "publickey", "password", "keyboard-interactive".
        authentication_methods: Vec<Way> = vec![Way(vec![Method::PublicKey])];
        /// Signature algorithms of keys and certificates that may log in, as patterns of the names in
        /// ssh -Q PubkeyAcceptedAlgorithms; SHA-1 (ssh-rsa) is never taken. Left out: those of
        /// crypto-policy.
        public_key_algorithms: Option<Vec<String>> = None;
        /// Least length of an RSA key in bits, that of a certificate's authority included. Left out: as
        /// crypto-policy has it, 3072 in "modern" and 2048 in the others.
        required_rsa_size: Option<u32> = None;
        /// Whether hardware keys must prove a touch. The SSH library hides that flag, so such keys
        /// are refused then, and the log says so.
        touch_required: bool = false;
        /// Whether hardware keys must prove a PIN; as for touch-required.
        verify_required: bool = false;
        /// Files of authorised keys, relative to the home unless absolute; %u is the user, %h the
        /// home.
        authorized_keys_files: Vec<PathBuf> = vec![".ssh/authorized_keys".into()];
        /// Program, and its arguments, that prints further keys as in authorized_keys, asked if no file
        /// has the key. It belongs to root and nobody else may write it. Tokens of sshd_config(5):
        /// %u %U %h the user, %k %t %f the key, %C the connection, %D, %%; without arguments it gets
        /// %u. It has ten seconds. Empty: none.
        authorized_keys_command: Vec<String> = Vec::new();
        /// The account that it runs as; one of its own is best.
        authorized_keys_command_user: String = String::new();
        /// Files of public keys whose certificates are taken from users; owned by root and not
        /// writable by others, read at each login.
        trusted_user_ca_keys: Vec<PathBuf> = Vec::new();
        /// Algorithms with which such an authority may have signed, as patterns of the names in ssh -Q
        /// sig; SHA-1 is never taken. Left out: those of crypto-policy.
        ca_signature_algorithms: Option<Vec<String>> = None;
        /// Names of which a certificate must carry one; %u is the user.
        principals: Vec<String> = vec!["%u".into()];
        /// Files of further such names, read as the user, relative to the home unless absolute.
        authorized_principals_files: Vec<PathBuf> = Vec::new();
        /// Program, and its arguments, that prints further such names, asked if no file has one; as
        /// authorized-keys-command, with %i the certificate's name, %s its number, %K %T %F the
        /// key of its authority in addition.
        authorized_principals_command: Vec<String> = Vec::new();
        /// The account that it runs as.
        authorized_principals_command_user: String = String::new();
        /// Files of keys and certificates that are refused: key revocation lists or public keys.
        /// While one of them cannot be read, nobody logs in with a key.
        revoked_keys: Vec<PathBuf> = Vec::new();
        /// Command that runs in place of whatever the client asks for, a shell and sftp included.
        /// Empty: none.
        force_command: String = String::new();
        /// Whether terminals are given.
        permit_tty: bool = true;
        /// Whether what terminals show is recorded, in the folder recordings. A login whose recording
        /// cannot be written is ended.
        record_terminals: bool = false;
        /// Whether what our own sftp-server does to files is in the audit log: opened and closed files
        /// with their bytes, every change, and what was refused.
        record_sftp: bool = false;
        /// Whether /tmp and /var/tmp are the user's own: folders in private-tmp-folder, the same ones in all
        /// logins of the user. They are mounted, which needs CAP_SYS_ADMIN; where that fails there is no
        /// login.
        private_tmp: bool = false;
        /// Whether /proc shows the login no processes of other users. As for private-tmp.
        hide_processes: bool = false;
        /// Bytes of memory that all programs of a user may have together, however they came to log in. It
        /// needs cgroup; the latest login's value holds. 0: no limit.
        memory_max: u64 = 0;
        /// How many processes and threads; as memory-max.
        processes_max: u32 = 0;
        /// Shells, commands and subsystems that one connection may have open.
        max_sessions: u32 = 64;
        /// How long a login may last; users are warned five minutes before on their terminals. "0s": as
        /// long as they like.
        session_time: Time = Time(None);
        /// How long a login shell on a terminal lives on when its line drops. Whoever logs in again with a
        /// terminal meanwhile is offered it, with what it showed last. "0s": it ends with its line.
        reattach_time: Time = Time(None);
        /// Silence in both directions after which a channel is closed, as "KIND=TIME" with patterns;
        /// the first entry that fits counts. Kinds: session:shell, session:command,
        /// session:subsystem:NAME, direct-tcpip, forwarded-tcpip, direct-streamlocal@openssh.com,
        /// forwarded-streamlocal@openssh.com, agent-connection, x11-connection, and global, which
        /// no pattern fits: silence of all channels together.
        channel_timeout: Vec<ChannelTimeout> = Vec::new();
        /// Time without an open channel after which a connection is closed; listeners of forwards
        /// are no channels. "0s": never.
        unused_connection_timeout: Time = Time(None);
        /// Forwarding of TCP ports: "no", "local" (from the client's side), "remote", "yes".
        tcp_forwarding: Forwarding = Forwarding::Yes;
        /// Forwarding of Unix sockets, with the same values.
        stream_local_forwarding: Forwarding = Forwarding::Yes;
        /// "host:port" to which ports may be forwarded; * stands for any host or port.
        permit_open: Vec<String> = vec!["*:*".into()];
        /// "address:port" on which forwarded ports may listen; a port alone is any address.
        permit_listen: Vec<String> = vec!["*:*".into()];
        /// Addresses on which forwarded ports listen: "no" (loopback alone), "yes" (all),
        /// "client-specified".
        gateway_ports: GatewayPorts = GatewayPorts::No;
        /// Whether the client's agent may be forwarded.
        agent_forwarding: bool = true;
        /// Whether X11 may be forwarded.
        x11_forwarding: bool = true;
        /// Environment variables that a client may set; * stands for any characters.
        accept_env: Vec<String> = ["LANG", "LC_*", "COLORTERM", "TERM_PROGRAM"].map(Into::into).into();
        /// Environment variables that every program of the login has.
        set_env: BTreeMap<String, String> = BTreeMap::new();
        /// Variables that ~/.ssh/environment and authorized_keys may set, as patterns.
        permit_user_environment: Vec<String> = Vec::new();
        /// Whether ~/.ssh/rc runs.
        permit_user_rc: bool = true;
        /// Search path of the user's programs.
        path: String = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".into();
        /// Permissions that new files never get, octal. Left out: as PAM leaves it.
        umask: Option<Umask> = None;
        /// Files that are shown on a new terminal, unless the home has .hushlogin.
        motd_files: Vec<PathBuf> = vec!["/run/motd.dynamic".into(), "/etc/motd".into()];
        /// Command whose output is shown there, run as the user, for ten seconds at most. Empty:
        /// none.
        motd_command: String = String::new();
        /// Whether a new terminal shows when and from where the user logged in last.
        print_last_log: bool = true;
        /// Whether SSH_USER_AUTH names a file that says how the user authenticated.
        expose_auth_info: bool = false;
        /// Commands by subsystem name.
        subsystems: BTreeMap<String, String> = [("sftp".to_owned(), "sftp-server".to_owned())].into();
    }
}

/// A text of which the empty one says that there is none: in a file an absent key means its default.
mod empty_is_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        value.as_deref().unwrap_or_default().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        Ok(Some(String::deserialize(from)?).filter(|text| !text.is_empty()))
    }
}

/// A path of which the empty one says that there is none.
mod empty_is_no_path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        value.clone().unwrap_or_default().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Some(PathBuf::deserialize(from)?).filter(|path| !path.as_os_str().is_empty()))
    }
}

/// Who may put a PROXY protocol header before the connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProxyProtocol {
    /// Networks from which a header is read.
    #[serde(deserialize_with = "crate::address::networks")]
    pub from: Vec<IpNet>,
    /// Whether a connection from there without a header is closed.
    pub required: bool,
}

/// The account of `break-glass`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BreakGlass {
    /// A local account; root is allowed here and nowhere else.
    pub user: String,
    /// Its keys, one per line; owned by root, not writable by others.
    pub authorized_keys: PathBuf,
    /// Networks from which it may come.
    #[serde(deserialize_with = "crate::address::networks")]
    pub source: Vec<IpNet>,
}
