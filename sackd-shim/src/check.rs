//! `sackd-shim check`: does by hand what the service will do, and prints every problem instead
//! of the first, with what to do about it. The controllers are pinged through
//! `sackd-shim-config`: no network here.

use std::fs::File;
use std::io::{ErrorKind, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use nix::unistd::{Uid, User};
use serde::Serialize;
use service::{Exit, Failure};
use slurm_auth::{Claims, Context, Keyring, Verifier, message_hash};
use slurm_wire::rpc::MessageType;
use slurm_wire::sack::{Request, VERIFY_LIMIT, parse_token_reply};
use sys::spawn::Spawn;

use crate::ask::{exchange, hint};
use crate::config::{Cluster, Settings, SlurmConfSource};
use crate::error::ShimError;
use crate::identity::{Answer, look_up};
use crate::keys::warnings;
use crate::options::Options;
use crate::policy::Policy;
use crate::privileges;
use crate::signer::unix_now;
use crate::status;

/// Clock offsets, in seconds, at which tokens are tried on a controller.
const OFFSETS: [i64; 19] = [
    -86_400, -3600, -600, -300, -60, -30, -10, -5, -2, 0, 2, 5, 10, 30, 60, 300, 600, 3600, 86_400,
];

/// Patience with the running service.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// Of several, the one it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Collects what is right and what is wrong; lines go out at once.
#[derive(Debug, Default)]
struct Report {
    json: bool,
    /// The cluster that is looked at, where there are several.
    cluster: Option<String>,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, level: Level, text: impl Into<String>, hint: Option<&str>) {
        let finding = Finding {
            level,
            cluster: self.cluster.clone(),
            text: text.into(),
            hint: hint.map(str::to_owned),
        };
        if !self.json {
            let word = match level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Problem => "problem",
            };
            match &finding.cluster {
                Some(cluster) => println!("{word:<8} cluster '{cluster}': {}", finding.text),
                None => println!("{word:<8} {}", finding.text),
            }
            if let Some(hint) = &finding.hint {
                println!("         hint: {hint}");
            }
        }
        self.findings.push(finding);
    }

    fn good(&mut self, text: impl Into<String>) {
        self.add(Level::Ok, text, None);
    }

    fn warning(&mut self, text: impl Into<String>, hint: &str) {
        self.add(Level::Warning, text, Some(hint));
    }

    fn problem(&mut self, text: impl Into<String>, hint: &str) {
        self.add(Level::Problem, text, Some(hint));
    }

    fn error(&mut self, error: &ShimError) {
        self.add(Level::Problem, service::exit::chain(error), error.hint());
    }
}

/// Runs all checks.
///
/// # Errors
/// Exit code 78 if there is any problem.
pub fn run(options: &Options, json: bool) -> Result<(), Failure> {
    let mut report = Report {
        json,
        ..Report::default()
    };
    match Settings::load(options) {
        Ok(settings) => {
            // Root may read what the service, as SlurmUser, may not.
            if let Err(error) = privileges::become_slurm_user(&settings.slurm_user) {
                report.error(&error);
            }
            identity(&settings, &mut report);
            for cluster in &settings.clusters {
                if settings.clusters.len() > 1 {
                    let name = cluster.name.as_deref().unwrap_or("the default one");
                    report.cluster = Some(name.to_owned());
                }
                everything(&settings, cluster, &mut report);
            }
            report.cluster = None;
            if let Some(words) = status::lacks(&settings) {
                report.problem(words, status::RESTART);
            }
        }
        Err(problems) => problems.iter().for_each(|error| report.error(error)),
    }
    let is_problem = |finding: &&Finding| finding.level == Level::Problem;
    let problems = report.findings.iter().filter(is_problem).count();
    if json {
        let value = serde_json::json!({"problems": problems, "findings": report.findings});
        println!("{value}");
    }
    match problems {
        0 => Ok(()),
        n => Err(Failure::new(
            Exit::Config,
            format!("{n} problem(s), see above"),
        )),
    }
}

fn everything(settings: &Settings, cluster: &Cluster, report: &mut Report) {
    run_directory(settings, cluster, report);
    slurm_conf(settings, cluster, report);
    if let Some(keys) = keys(settings, cluster, report) {
        match mint(settings, cluster, &keys, 60) {
            Ok(_) => {
                report.good("a token was made and verified");
                service(cluster, &keys, report);
                controllers(settings, cluster, &keys, report);
            }
            Err(error) => report.error(&error),
        }
    }
    registration(cluster, report);
}

fn run_directory(settings: &Settings, cluster: &Cluster, report: &mut Report) {
    use std::os::unix::fs::MetadataExt;
    let path = cluster.run_dir.display();
    let slurm = settings.slurm_user.uid.as_raw();
    match std::fs::metadata(&cluster.run_dir) {
        // A folder that containers share is as its owner, root, made it: the mounts protect it.
        Ok(meta) if meta.mode() & 0o1002 == 0o002 && meta.uid() != 0 => report.warning(
            format!("everybody may write in '{path}'"),
            "make it 0755, or mount it read-only where users are",
        ),
        Ok(meta) if meta.uid() == slurm || meta.uid() == 0 => {
            report.good(format!("run directory '{path}'"));
        }
        Ok(meta) => report.problem(
            format!(
                "run directory '{path}' belongs to uid {}, neither to root nor to SlurmUser",
                meta.uid()
            ),
            "give the directory to SlurmUser, mode 0755",
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => report.warning(
            format!("run directory '{path}' is missing and will be made"),
            "RuntimeDirectory= of systemd, or an emptyDir, makes it before",
        ),
        Err(error) => report.problem(
            format!("run directory '{path}': {error}"),
            "let SlurmUser into it",
        ),
    }
    if let Ok(space) = statvfs(&cluster.run_dir)
        && (space.blocks_available() == 0 || (space.files() > 0 && space.files_available() == 0))
    {
        report.problem(
            format!("no space is left in '{path}'"),
            "a fetched configuration cannot be written there: make room, or give it a larger file system",
        );
    }
    if cluster.key.path().starts_with(&cluster.run_dir) {
        report.problem(
            format!("the key lies in '{path}', where users' containers can see it"),
            "keep it in a folder of its own",
        );
    }
}

fn slurm_conf(settings: &Settings, cluster: &Cluster, report: &mut Report) {
    let path = cluster.slurm_conf_path();
    let shown = path.display();
    if !path.exists() {
        if matches!(cluster.slurm_conf, SlurmConfSource::Local(_)) {
            report.problem(
                format!("'{shown}' is missing"),
                "name another by 'conf', or controllers by 'conf-server'",
            );
        } else {
            report.warning(
                format!("'{shown}' has not been fetched yet"),
                "it comes with the first fetch after the start",
            );
        }
        return;
    }
    let policy = Policy::new(cluster);
    report.good(format!(
        "'{shown}': cluster '{}', tokens live {} s, identities in tokens: {}",
        policy.cluster().unwrap_or("-"),
        policy.lifetime().as_secs(),
        if policy.use_client_ids() { "yes" } else { "no" }
    ));
    if let Some((name, uid)) = policy
        .slurm_user()
        .and_then(|name| Some((name, uid_of(name)?)))
        && uid != settings.slurm_user.uid
    {
        report.warning(
            format!(
                "'{shown}' has SlurmUser={name}, uid {uid} here, and 'slurm-user' is uid {}: pushes of others than \
                 that one are refused",
                settings.slurm_user.uid
            ),
            "set 'slurm-user' to the number that SlurmUser has on the controller",
        );
    }
    if !policy.is_auth_slurm() {
        report.warning(
            format!("'{shown}' does not have AuthType=auth/slurm: clients with it will not ask for tokens"),
            "set it on the controller, and CredType=cred/slurm; they need the same key",
        );
    }
    if let Some(tls_type) = policy.tls_type() {
        report.problem(
            format!("'{shown}' has TLSType={tls_type}, and TLS to slurmctld is not spoken here"),
            "tokens are made all the same; have the configuration brought by other means ('conf'), or use Slurm's sackd",
        );
    }
}

/// A name or a number; a name that is not known here is no finding.
fn uid_of(name: &str) -> Option<Uid> {
    match name.parse() {
        Ok(number) => Some(Uid::from_raw(number)),
        Err(_) => Some(User::from_name(name).ok()??.uid),
    }
}

fn identity(settings: &Settings, report: &mut Report) {
    let user = &settings.slurm_user;
    match look_up(user.uid.as_raw()) {
        Answer::Found(found) => {
            report.good(format!("SlurmUser '{}', uid {}", found.name, user.uid));
        }
        Answer::Absent => report.good(format!("SlurmUser is uid {}, without an account", user.uid)),
        Answer::Unavailable => report.problem(
            format!("SlurmUser '{}' cannot be looked up", user.name),
            "is the directory's socket there?",
        ),
    }
    let own = Uid::effective();
    if own != user.uid && !own.is_root() {
        report.warning(
            format!("this is uid {own}, SlurmUser is uid {}", user.uid),
            "run it as SlurmUser, so that the key need be readable by that one alone",
        );
    }
}

fn keys(settings: &Settings, cluster: &Cluster, report: &mut Report) -> Option<Keyring> {
    let path = cluster.key.path().display();
    match cluster.key.load() {
        Ok(keys) => {
            let now = unix_now();
            let kid = keys.signing_kid(now);
            let kid = kid.map_or_else(String::new, |kid| format!(", '{kid}' signs"));
            report.good(format!("{} key(s) in '{path}'{kid}", keys.len()));
            let slurm = settings.slurm_user.uid.as_raw();
            for warning in warnings(&keys, &cluster.key, slurm, now) {
                report.warning(
                    format!("'{path}': {warning}"),
                    "replace the file; it is read again while the service runs",
                );
            }
            Some(keys)
        }
        Err(error) => {
            report.error(&error);
            None
        }
    }
}

/// A token for REQUEST_PING, as SlurmUser, good for so many seconds.
fn mint(
    settings: &Settings,
    cluster: &Cluster,
    keys: &Keyring,
    seconds: i64,
) -> Result<String, ShimError> {
    let now = unix_now();
    let host = nix::unistd::gethostname().unwrap_or_default();
    let claims = Claims {
        cluster: cluster.name.clone(),
        context: Context::Sack,
        exp: now + seconds,
        gid: settings.slurm_user.gid.as_raw(),
        host: host.to_string_lossy().into_owned(),
        iat: now,
        id: None,
        payload: message_hash::k12(MessageType::PING.0, &[]).to_vec(),
        ruid: slurm_wire::sack::ANYBODY,
        uid: settings.slurm_user.uid.as_raw(),
        ver: i64::from(slurm_wire::ProtocolVersion::V26_05.0),
    };
    let token = slurm_auth::sign(&claims, keys)?;
    if seconds >= 0 {
        let uid = claims.uid;
        slurm_auth::verify(&token, keys, Verifier { uid, now })?;
    }
    Ok(token)
}

/// What is behind the socket: whether it serves, and with this key.
fn service(cluster: &Cluster, keys: &Keyring, report: &mut Report) {
    let path = crate::socket::path(&cluster.run_dir);
    let shown = path.display();
    let request = Request::Create {
        version: slurm_wire::ProtocolVersion::V24_11,
        ruid: slurm_wire::sack::ANYBODY,
        payload: Vec::new(),
    };
    let reply = match exchange(&path, &request.encode(), PATIENCE, VERIFY_LIMIT as u64) {
        Ok(reply) => reply,
        Err(error) => {
            let words = match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    format!("nobody serves '{shown}' at present")
                }
                ErrorKind::WouldBlock => format!("the service at '{shown}' does not answer"),
                _ => format!("ask the service at '{shown}': {error}"),
            };
            return report.warning(words, hint(error.kind()));
        }
    };
    let uid = Uid::effective();
    let Ok(Some(token)) = parse_token_reply(&reply) else {
        return report.warning(
            format!("the service at '{shown}' gives no token to uid {uid}"),
            "see its log for event=token.refused",
        );
    };
    let reader = Verifier {
        uid: uid.as_raw(),
        now: unix_now(),
    };
    match slurm_auth::verify(&token, keys, reader) {
        Ok(_) => report.good(format!("the service at '{shown}' gives good tokens")),
        Err(error) => report.problem(
            format!(
                "the service at '{shown}' gives a token that '{}' does not make good: {error}",
                cluster.key.path().display()
            ),
            "see its log for event=keys.kept: it keeps its last good key; or is it another service?",
        ),
    }
}

/// Gives tokens to `sackd-shim-config ping` on its standard input: one that is good for a minute,
/// and one for each offset, by which it finds out how late it is over there. It prints a line for
/// each controller.
fn controllers(settings: &Settings, cluster: &Cluster, keys: &Keyring, report: &mut Report) {
    let servers = match &cluster.slurm_conf {
        SlurmConfSource::Local(_) => Policy::new(cluster).controllers(),
        SlurmConfSource::Discovered => Vec::new(),
        SlurmConfSource::Fetched(servers) => servers.clone(),
    };
    // A local file that names none: DNS is not asked for them.
    if servers.is_empty() && matches!(cluster.slurm_conf, SlurmConfSource::Local(_)) {
        return;
    }
    let mut tokens = String::new();
    for seconds in std::iter::once(60).chain(OFFSETS) {
        match mint(settings, cluster, keys, seconds) {
            Ok(token) => tokens.push_str(&format!("{seconds} {token}\n")),
            Err(error) => return report.error(&error),
        }
    }
    match ping(&servers, &tokens) {
        Ok(lines) => {
            for line in lines.lines() {
                match line.split_once(' ') {
                    Some(("ok", rest)) => report.good(rest),
                    Some(("clock", rest)) => {
                        report.warning(rest, "set both clocks by one NTP server");
                    }
                    Some((_, rest)) => match rest.split_once(" | ") {
                        Some((text, hint)) => report.problem(text, hint),
                        None => report.problem(rest, "see the log of slurmctld"),
                    },
                    None => {}
                }
            }
        }
        Err(error) => report.problem(
            format!("ping the controllers: {error}"),
            "is sackd-shim-config beside sackd-shim?",
        ),
    }
}

fn ping(servers: &[String], tokens: &str) -> std::io::Result<String> {
    let (input, mut feed) = pipe()?;
    let (drain, output) = pipe()?;
    let program = service::sibling("sackd-shim-config")?;
    let mut child = Spawn::new(&program)
        .args(["ping", "--"])
        .args(servers)
        .fd(0, OwnedFd::from(input))
        .fd(1, OwnedFd::from(output))
        .inherit_stderr()
        .start()?;
    feed.write_all(tokens.as_bytes())?;
    drop(feed);
    let mut text = String::new();
    File::from(OwnedFd::from(drain))
        .take(1 << 20)
        .read_to_string(&mut text)?;
    child.wait()?;
    Ok(text)
}

/// What the configuration process of a running service says of itself.
fn registration(cluster: &Cluster, report: &mut Report) {
    if matches!(cluster.slurm_conf, SlurmConfSource::Local(_)) {
        return;
    }
    let Some(state) = crate::child::report(&cluster.run_dir) else {
        report.warning(
            "the configuration process has not reported yet",
            "it does after the start of the service",
        );
        return;
    };
    let ago = |field: &str| {
        let at = state.get(field).and_then(serde_json::Value::as_i64);
        at.map_or_else(
            || "never".to_owned(),
            |at| format!("{} s ago", unix_now() - at),
        )
    };
    let (fetch, push) = (ago("last_fetch"), ago("last_push"));
    let failures = state.get("failures").and_then(serde_json::Value::as_u64);
    if let Some(failures) = failures.filter(|failures| *failures > 0) {
        let why = state.get("last_error").and_then(serde_json::Value::as_str);
        report.warning(
            format!(
                "{}, the last good one was {fetch}: {}",
                match failures {
                    1 => "the last fetch has failed".to_owned(),
                    many => format!("the last {many} fetches have failed"),
                },
                why.unwrap_or("-")
            ),
            "clients keep the configuration they have; see the log for event=fetch.failed and config.kept",
        );
    }
    let registered = state.get("registered").and_then(serde_json::Value::as_bool);
    let port = state.get("port").and_then(serde_json::Value::as_u64);
    match (registered, port) {
        (Some(true), Some(port)) => report.good(format!(
            "registered for pushes at port {port}; last fetch {fetch}, last push {push}"
        )),
        (Some(true), None) => report.warning(
            format!("registered, but not listening for pushes; last fetch {fetch}"),
            "see the log for event=push.not_listening; changes come with the next fetch",
        ),
        _ if cluster.register => report.warning(
            format!("not registered for pushes; last fetch {fetch}"),
            "see the log for event=fetch.failed",
        ),
        _ => report.good(format!("not to be registered; last fetch {fetch}")),
    }
}
