//! `login-gateway check`: the effective configuration, and all that keeps it from serving. The same
//! checks run before every start and every reload.

mod login;
mod scopes;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway_wire::Settings;
use gateway_wire::settings::{EVERYBODYS_BANNER, MAX_BANNER};
use service::{Exit, Failure};

use crate::arguments::Check;
use crate::config;
use crate::control_group;
use crate::out_of_memory::OutOfMemory;
use crate::pages::print;
use crate::programs::SIBLINGS;

/// Whether one can serve in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// No.
    Error,
    /// Yes, but somebody will miss something.
    Warning,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub text: String,
}

/// Prints configuration and problems; fails if there is an error among them.
pub fn run(path: &Path, options: &Check) -> Result<(), Failure> {
    if let Some(user) = &options.user {
        return login::run(path, user, options);
    }
    let mut lines = String::new();
    let mut errors = 0;
    match config::load_naming_all(path) {
        Err(problems) => {
            errors = problems.len();
            for problem in problems {
                let _ = writeln!(lines, "error: {}", service::exit::chain(&problem));
            }
        }
        Ok(settings) => {
            let effective = login::effective(&settings)?;
            print(effective.as_bytes())?;
            let memory = OutOfMemory::here(&settings);
            print(format!("# Memory that runs out {memory}.\n").as_bytes())?;
            for problem in problems(&settings) {
                let kind = match problem.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                };
                errors += usize::from(problem.severity == Severity::Error);
                let _ = writeln!(lines, "{kind}: {}", problem.text);
            }
        }
    }
    eprint!("{lines}");
    if errors == 0 {
        return Ok(());
    }
    let cause = format!("{errors} problem(s) in '{}'", path.display());
    let failure = Failure::new(Exit::Config, cause);
    Err(if nix::unistd::geteuid().is_root() {
        failure
    } else {
        failure.hint("some files are read by root alone; run \"login-gateway check\" as root")
    })
}

/// All problems with these settings on this machine.
pub fn problems(settings: &Settings) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.addresses(settings);
    found.numbers(settings);
    found.programs();
    found.host_keys(settings);
    found.sandbox(settings);
    found.texts(settings);
    found.logins(settings);
    found.break_glass(settings);
    found.scopes(settings);
    found.memory();
    found.0
}

/// What keeps one connection from being served, listening and host keys left out: net says itself
/// what is wrong with a key, and nobody waits for a check of it twice.
pub fn problems_of_one_connection(settings: &Settings) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.numbers(settings);
    found.programs();
    found.sandbox(settings);
    found.logins(settings);
    found.scopes(settings);
    found.0
}

/// Bytes that net wants to lock.
const LOCKED_MEMORY: u64 = 4 << 20;
/// Seconds before a certificate's end from which on it is said: four weeks.
const EXPIRY_NOTICE: u64 = 28 * 86_400;

struct Found(Vec<Problem>);

impl Found {
    fn error(&mut self, text: impl Into<String>) {
        self.0.push(Problem {
            severity: Severity::Error,
            text: text.into(),
        });
    }

    fn warning(&mut self, text: impl Into<String>) {
        self.0.push(Problem {
            severity: Severity::Warning,
            text: text.into(),
        });
    }

    fn addresses(&mut self, settings: &Settings) {
        if settings.listen.is_empty() {
            self.error("listen: no address");
        }
        let all: Vec<&SocketAddr> = settings
            .listen
            .iter()
            .chain(&settings.health_listen)
            .collect();
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                if overlap(one, other) {
                    self.error(format!("'{one}' and '{other}' are the same port twice"));
                }
            }
        }
        if settings.proxy_protocol.required && settings.proxy_protocol.from.is_empty() {
            self.error("proxy-protocol: required, but from names no network");
        }
        for network in &settings.proxy_protocol.from {
            if network.prefix_len() == 0 {
                self.warning(format!(
                    "proxy-protocol: anybody in '{network}' may claim any address"
                ));
            }
        }
    }

    fn numbers(&mut self, settings: &Settings) {
        for (name, zero) in [
            ("login-grace-time", settings.login_grace_time.is_zero()),
            ("keepalive-interval", settings.keepalive_interval.is_zero()),
            ("keepalive-count-max", settings.keepalive_count_max == 0),
            ("max-auth-tries", settings.max_auth_tries == 0),
            ("max-startups", settings.max_startups == 0),
        ] {
            if zero {
                self.error(format!("{name}: 0 lets nobody in"));
            }
        }
        if !(64 * 1024..=1 << 30).contains(&settings.rekey_bytes) {
            self.warning("rekey-bytes: the nearest of 64 KiB and 1 GiB is used");
        }
        if settings.rekey_interval < Duration::from_secs(1) {
            self.warning("rekey-interval: one second is used");
        }
        let (drop, most) = (settings.early_drop, settings.max_startups);
        if drop.start > most || drop.rate > 100 {
            self.error("early-drop: start above max-startups, or rate above 100");
        }
        let size = settings.per_source_net_block_size;
        if size.ipv4 > 32 || size.ipv6 > 128 {
            self.error("per-source-net-block-size: more bits than an address has");
        }
        if settings.penalties.enabled && settings.penalties.min > settings.penalties.max {
            self.error("penalties: min above max: nobody is ever kept out");
        }
        if settings.warm > settings.max_startups {
            self.error("warm: more than max-startups");
        }
    }

    fn programs(&mut self) {
        for name in SIBLINGS {
            match service::sibling(name) {
                Ok(path) if is_executable(&path) => {}
                Ok(path) => self.error(format!("program '{}' is missing", path.display())),
                Err(error) => self.error(format!("program '{name}': {error}")),
            }
        }
    }

    /// Asks net itself: it alone knows the keys' format.
    fn host_keys(&mut self, settings: &Settings) {
        if settings.host_keys.is_empty() {
            self.error("host-keys: no key");
        }
        let mut kinds = BTreeSet::new();
        for key in &settings.host_keys {
            let asked = net(["check-host-key".as_ref(), key.as_os_str()]);
            match asked {
                // That net is missing has been said.
                None => {}
                Some(Ok(said)) => {
                    let kind = said.split(' ').next().unwrap_or_default();
                    if !kinds.insert(kind.to_owned()) {
                        let key = key.display();
                        self.warning(format!(
                            "host key '{key}' is the second {kind} and not used"
                        ));
                    }
                }
                Some(Err(reason)) => self.error(if reason.is_empty() {
                    format!("host key '{}' was not understood", key.display())
                } else {
                    reason
                }),
            }
        }
        for path in &settings.host_certificates {
            let keys = settings.host_keys.iter().map(|key| key.as_os_str());
            let command = ["check-host-certificate".as_ref(), path.as_os_str()];
            match net(command.into_iter().chain(keys)) {
                None => {}
                Some(Err(reason)) => self.error(reason),
                Some(Ok(said)) => self.expiry(path, &said),
            }
        }
    }

    /// net says when a certificate ends, or that it is not in its time.
    fn expiry(&mut self, path: &Path, said: &str) {
        let path = path.display();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        match said.parse::<u64>() {
            Err(_) => self.warning(format!("host certificate '{path}' {said} and is not shown")),
            Ok(end) if end.saturating_sub(now) < EXPIRY_NOTICE => {
                let days = end.saturating_sub(now) / 86_400;
                self.warning(format!("host certificate '{path}' expires in {days} days"));
            }
            Ok(_) => {}
        }
    }

    fn break_glass(&mut self, settings: &Settings) {
        let Some(account) = &settings.break_glass else {
            return;
        };
        match nix::unistd::User::from_name(&account.user) {
            Ok(Some(_)) => {}
            Ok(None) => self.error(format!(
                "break-glass: user '{}' does not exist",
                account.user
            )),
            Err(error) => self.error(format!("break-glass: look up '{}': {error}", account.user)),
        }
        self.trusted_file("break-glass: authorized-keys", &account.authorized_keys);
        if account.source.is_empty() {
            self.error("break-glass: source names no network");
        }
        for network in account.source.iter().filter(|n| n.prefix_len() == 0) {
            self.warning(format!(
                "break-glass: it may come from anywhere ('{network}')"
            ));
        }
    }

    /// Session keys are locked in memory as far as the limit goes (T17).
    fn memory(&mut self) {
        let may = sys::process::allow_locked_memory(LOCKED_MEMORY);
        if may < LOCKED_MEMORY {
            self.warning(format!(
                "memory: a process may lock {} KiB (RLIMIT_MEMLOCK), and keys of a connection may want \
                 {} KiB to stay out of swap",
                may / 1024,
                LOCKED_MEMORY / 1024
            ));
        }
    }

    fn sandbox(&mut self, settings: &Settings) {
        match &settings.user {
            None => self.error("user: needed when root serves"),
            Some(name) => match nix::unistd::User::from_name(name) {
                Ok(Some(user)) if user.uid.is_root() => {
                    self.error(format!("user: '{name}' is root"));
                }
                Ok(Some(_)) => {}
                Ok(None) => self.error(format!("user: '{name}' does not exist")),
                Err(error) => self.error(format!("user: look up '{name}': {error}")),
            },
        }
        let root = &settings.empty_root;
        let shown = root.display();
        match fs::symlink_metadata(root) {
            Err(error) => self.error(format!("empty-root: '{shown}': {error}")),
            Ok(meta) if !meta.is_dir() => self.error(format!("empty-root: '{shown}' is no folder")),
            Ok(meta) => {
                if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
                    let mode = meta.mode() & 0o7777;
                    self.error(format!(
                        "empty-root: '{shown}' may be written by others than root (owner {}, mode \
                         {mode:04o})",
                        meta.uid()
                    ));
                }
                match fs::read_dir(root).map(|mut entries| entries.next().is_none()) {
                    Ok(true) => {}
                    Ok(false) => self.error(format!("empty-root: '{shown}' is not empty")),
                    Err(error) => self.error(format!("empty-root: '{shown}': {error}")),
                }
            }
        }
    }

    fn texts(&mut self, settings: &Settings) {
        let Some(path) = &settings.banner else {
            return;
        };
        match service::config::read_text(path, MAX_BANNER) {
            Err(error) => {
                let error = service::exit::chain(&error);
                self.warning(format!("banner: {error}; none is shown"));
            }
            Ok((_, Some(wrong))) => self.warning(format!("banner: {wrong}")),
            Ok((text, None)) if text.len() > EVERYBODYS_BANNER => self.warning(format!(
                "banner: '{}' has more than {EVERYBODYS_BANNER} bytes: OpenSSH shows it, PuTTY and libssh2 do \
                 not log in",
                path.display()
            )),
            Ok(_) => {}
        }
    }

    /// What limits for all programs of a user need.
    fn group(&mut self, settings: &Settings) {
        let blocks = &settings.r#match;
        let has = match &settings.cgroup {
            Some(group) => control_group::has(group).unwrap_or_else(|error| {
                self.error(error.to_string());
                Vec::new()
            }),
            None => Vec::new(),
        };
        let memory = settings.memory_max > 0 || blocks.iter().any(|b| b.memory_max > Some(0));
        let pids = settings.processes_max > 0 || blocks.iter().any(|b| b.processes_max > Some(0));
        for (key, wanted, name) in [
            ("memory-max", memory, "memory"),
            ("processes-max", pids, "pids"),
        ] {
            if !wanted || has.iter().any(|has| has == name) {
                continue;
            }
            self.error(match &settings.cgroup {
                None => format!("{key}: it needs 'cgroup', a control group that is delegated"),
                Some(group) => format!(
                    "{key}: the control group '{}' does not have the controller '{name}'",
                    group.display()
                ),
            });
        }
    }

    /// What mounts for a login need.
    fn view(&mut self, settings: &Settings) {
        let blocks = &settings.r#match;
        let tmp = settings.private_tmp || blocks.iter().any(|b| b.private_tmp == Some(true));
        let hide = settings.hide_processes || blocks.iter().any(|b| b.hide_processes == Some(true));
        for (key, wanted) in [("private-tmp", tmp), ("hide-processes", hide)] {
            if wanted && settings.user.is_none() {
                self.error(format!("{key}: only a gateway of root's can have it"));
            } else if wanted && !may_mount() {
                self.error(format!(
                    "{key}: it needs the capability SYS_ADMIN, which this process does not have"
                ));
            }
        }
        let folder = &settings.private_tmp_folder;
        if tmp
            && let Ok(meta) = fs::symlink_metadata(folder)
            && (!meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o022 != 0)
        {
            self.error(format!(
                "private-tmp-folder: '{}' is not a folder of root's that others cannot write",
                folder.display()
            ));
        }
    }

    fn logins(&mut self, settings: &Settings) {
        if let Some(service) = &settings.pam_service {
            let folders = ["/etc/pam.d", "/usr/lib/pam.d"].map(Path::new);
            if service.contains('/') || !folders.iter().any(|f| f.join(service).is_file()) {
                self.error(format!("pam-service: no '{service}' in /etc/pam.d"));
            }
        }
        for (name, program) in &settings.subsystems {
            // A program may have arguments behind it.
            let path = program.split_ascii_whitespace().next().unwrap_or_default();
            // A bare name is our own file server, or found by the user's shell.
            if path.contains('/') && !is_executable(Path::new(path)) {
                self.warning(format!("subsystems: {name}: no program '{path}'"));
            }
        }
        let mut told = settings.r#match.iter().map(|b| b.record_sftp == Some(true));
        let foreign = settings.subsystems.iter().find(|(name, command)| {
            let program = command.split_ascii_whitespace().next();
            *name == "sftp" && !matches!(program, Some("sftp-server" | "internal-sftp"))
        });
        if (settings.record_sftp || told.any(|told| told))
            && let Some((_, command)) = foreign
        {
            self.warning(format!(
                "record-sftp: 'subsystems.sftp' is '{command}', which tells nothing; \"sftp-server\" does"
            ));
        }
        if let Some(socket) = settings.directory_socket.as_ref().filter(|s| !s.exists()) {
            self.warning(format!(
                "directory-socket: '{}' is not there (yet)",
                socket.display()
            ));
        }
        let blocks = settings.r#match.iter();
        let mut recorded = blocks.map(|block| block.record_terminals == Some(true));
        if settings.record_terminals || recorded.any(|recorded| recorded) {
            let shown = settings.recordings.display();
            match fs::metadata(&settings.recordings) {
                Ok(meta) if meta.is_dir() && meta.uid() == 0 && meta.mode() & 0o022 == 0 => {}
                Ok(_) => self.error(format!(
                    "recordings: '{shown}' is not a folder of root's that others cannot write"
                )),
                // It may be mounted later; who is to be recorded does not get in before.
                Err(error) => self.warning(format!(
                    "recordings: '{shown}': {error}; logins with record-terminals get no terminal"
                )),
            }
        }
        self.view(settings);
        self.group(settings);
        if settings.make_home && !settings.skel.is_dir() {
            self.warning(format!(
                "skel: '{}' is no folder; new homes start empty",
                settings.skel.display()
            ));
        }
    }
}

/// Whether this process may mount: CAP_SYS_ADMIN among its effective capabilities (capabilities(7)).
fn may_mount() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set & 1 << 21 != 0)
}

/// What net says to a command: its first line, or the reason for its failure; `None` if it is not
/// there.
fn net<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Option<Result<String, String>> {
    let program = service::sibling("login-gateway-net").ok()?;
    let output = Command::new(program).args(arguments).output().ok()?;
    let first = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().next().unwrap_or_default().to_owned()
    };
    Some(if output.status.success() {
        Ok(first(&output.stdout))
    } else {
        let said = first(&output.stderr);
        Err(said.trim_start_matches("login-gateway-net: ").to_owned())
    })
}

/// Whether a socket on one of them keeps the other from being bound.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let any = |a: &SocketAddr| a.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || any(one) || any(other))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            host_keys: Vec::new(),
            empty_root: folder.path().into(),
            ..Settings::default()
        };
        change(&mut settings);
        let problems = problems(&settings);
        problems.into_iter().map(|p| p.text).collect()
    }

    #[test]
    fn each_problem_is_said() {
        let check = |change: &dyn Fn(&mut Settings), expected: &str| {
            let said = said(change);
            assert!(
                said.iter().any(|l| l.contains(expected)),
                "{expected}: {said:#?}"
            );
        };
        check(&|s| s.listen.clear(), "listen: no address");
        check(
            &|s| s.user = Some("no-such-user".into()),
            "'no-such-user' does not exist",
        );
        check(&|s| s.user = Some("root".into()), "'root' is root");
        check(&|s| s.user = None, "user: needed");
        check(&|s| s.empty_root = "/etc".into(), "'/etc' is not empty");
        check(
            &|s| s.empty_root = "/nonexistent".into(),
            "'/nonexistent': No such file",
        );
        check(
            &|s| s.empty_root = "/tmp".into(),
            "'/tmp' may be written by others",
        );
        check(
            &|s| s.pam_service = Some("no-such".into()),
            "no 'no-such' in /etc/pam.d",
        );
        check(&|s| s.max_startups = 0, "max-startups: 0");
        check(
            &|s| s.proxy_protocol.required = true,
            "from names no network",
        );
        check(
            &|s| s.proxy_protocol.from = vec!["0.0.0.0/0".parse().unwrap()],
            "anybody in '0.0.0.0/0'",
        );
        check(
            &|s| s.subsystems = [("x".into(), "/no/x -e".into())].into(),
            "x: no program '/no/x'",
        );
        check(
            &|s| {
                s.record_sftp = true;
                s.subsystems = [("sftp".into(), "/usr/lib/openssh/sftp-server".into())].into();
            },
            "which tells nothing",
        );
        let with = |text: &str| -> Settings { toml::from_str(text).unwrap() };
        let block = |text: &str| {
            let with = with(text);
            move |s: &mut Settings| *s = with.clone()
        };
        check(
            &block("pam-service = \"\"\nauthentication-methods = [\"publickey,password\"]"),
            "'publickey,password' needs PAM",
        );
        check(
            &block("[[match]]\nauthentication-methods = []"),
            "match block 1: authentication-methods: no way in",
        );
        check(
            &block("[[match]]\nuser = [\"!a\"]\npermit-tty = false"),
            "match block 1: user: only exclusions",
        );
        check(&block("[[match]]\nuser = [\"a\"]"), "it sets nothing");
        check(
            &block("permit-open = [\"host\"]"),
            "permit-open: 'host' is not \"host:port\"",
        );
        check(
            &block("trusted-user-ca-keys = [\"/nonexistent\"]"),
            "trusted-user-ca-keys: '/nonexistent': No such file",
        );
        check(
            &block("revoked-keys = [\"/tmp\"]"),
            "revoked-keys: '/tmp' is no file",
        );
        check(
            &block("authorized-keys-files = [\"/k/%U\"]"),
            "'%U' is not %u, %h or %%",
        );
        check(
            &block(
                "break-glass = { user = \"no-such\", authorized-keys = \"/nonexistent\", source = [] }",
            ),
            "break-glass: user 'no-such' does not exist",
        );
        check(&block("set-env = { \"A=B\" = \"1\" }"), "'A=B' is no name");
        check(&|s| s.rekey_bytes = 1, "rekey-bytes: the nearest");
        check(&|_| (), "host-keys: no key");
        check(
            &|s| s.banner = Some("/nonexistent".into()),
            "banner: read '/nonexistent': No such file",
        );
        check(
            &|s| s.health_listen = Some("127.0.0.1:22".parse().unwrap()),
            "'0.0.0.0:22' and '127.0.0.1:22' are the same port twice",
        );
    }

    #[test]
    fn which_addresses_overlap() {
        let check =
            |one: &str, other: &str| overlap(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(check("0.0.0.0:22", "10.0.0.1:22"));
        assert!(check("[::1]:22", "[::]:22"));
        assert!(check("10.0.0.1:22", "10.0.0.1:22"));
        assert!(!check("0.0.0.0:22", "[::]:22"));
        assert!(!check("0.0.0.0:22", "0.0.0.0:23"));
        assert!(!check("0.0.0.0:0", "0.0.0.0:0"));
        assert!(!check("10.0.0.1:22", "10.0.0.2:22"));
    }
}
