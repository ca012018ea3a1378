//! `login-gateway why USER`: everything here that could keep a person out, looked at in the order of a
//! login, with what to do. Nothing is decided by it; the monitor does that at each login anew.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use directory_client::Client;
use gateway_wire::control::{Answer, Request};
use gateway_wire::policy::Who;
use gateway_wire::{Policy, Settings};
use nix::unistd::{Group, User, getgrouplist};
use serde::Serialize;
use service::{Exit, Failure};
use sys::identity::with_files_of;

use crate::arguments::{Arguments, Why};
use crate::config;
use crate::pages::print;
use crate::sessions::ask;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    /// Whether this alone keeps the user out.
    good: bool,
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: &'static str, detail: impl Into<String>) {
        self.add(what, true, detail.into(), None);
    }

    fn bad(&mut self, what: &'static str, detail: impl Into<String>, hint: impl Into<String>) {
        self.add(what, false, detail.into(), Some(hint.into()));
    }

    fn add(&mut self, what: &'static str, good: bool, detail: String, hint: Option<String>) {
        self.0.push(Finding {
            what,
            good,
            detail,
            hint,
        });
    }
}

/// Prints the findings; fails if one of them keeps the user out.
pub fn run(arguments: &Arguments, options: &Why) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(Exit::Permission, "this is for root"));
    }
    let path = arguments.config();
    let settings = config::load_naming_all(path).map_err(|problems| {
        let text: Vec<String> = problems.iter().map(|p| service::exit::chain(p)).collect();
        Failure::new(Exit::Config, text.join("\n"))
    })?;
    let mut findings = Findings::default();
    gateway(arguments, &settings, &mut findings);
    let known = directory(&settings, &options.user, &mut findings);
    let user = account(&settings, options, known, &mut findings);
    let groups = user.as_ref().map(groups_of).unwrap_or_default();
    let policy = settings.policy(&Who {
        user: &options.user,
        groups: &groups,
        source: options.source,
        destination: None,
    });
    let break_glass = settings.break_glass.as_ref();
    let break_glass = break_glass.filter(|account| {
        account.user == options.user
            && account
                .source
                .iter()
                .any(|net| net.contains(&options.source))
    });
    match break_glass {
        Some(account) => findings.good(
            "break-glass",
            format!(
                "only the keys of '{}' count",
                account.authorized_keys.display()
            ),
        ),
        None => {
            rules(options, &groups, &policy, &mut findings);
            if let Some(user) = &user {
                with_files_of(user.uid.as_raw(), || keys(&policy, user, &mut findings));
            }
        }
    }
    let out: Vec<&str> = findings
        .0
        .iter()
        .filter(|f| !f.good)
        .map(|f| f.what)
        .collect();
    if options.json {
        let all = serde_json::json!({ "user": options.user, "source": options.source, "may": out.is_empty(), "findings": findings });
        print((serde_json::to_string_pretty(&all)? + "\n").as_bytes())?;
    } else {
        print(text(&findings).as_bytes())?;
    }
    match out.as_slice() {
        [] if options.json => Ok(()),
        [] => print(
            b"nothing here keeps them out; the log has the reason of each refusal (auth.refused)\n",
        ),
        out => {
            let cause = format!("'{}' cannot log in: {}", options.user, out.join(", "));
            Err(Failure::new(Exit::Failure, cause))
        }
    }
}

fn text(findings: &Findings) -> String {
    let lines = findings.0.iter().map(|finding| {
        let mark = if finding.good { "ok " } else { "NO " };
        let mut line = format!("{mark} {:12} {}\n", finding.what, finding.detail);
        if let Some(hint) = &finding.hint {
            line += &format!("{:16} {hint}\n", "");
        }
        line
    });
    lines.collect()
}

/// Whether anybody may log in.
fn gateway(arguments: &Arguments, settings: &Settings, findings: &mut Findings) {
    match ask(arguments, &Request::Status) {
        Ok(Answer::Status(status)) if status.state != "serving" => findings.bad(
            "gateway",
            format!("it is {}", status.state),
            "login-gateway drain --cancel",
        ),
        Ok(Answer::Status(status)) if status.startups >= settings.max_startups => findings.bad(
            "gateway",
            format!("{} connections have not authenticated", status.startups),
            "login-gateway sessions list; raise max-startups",
        ),
        Ok(Answer::Status(status)) => findings.good(
            "gateway",
            format!(
                "serving, {} login(s), {} authenticating",
                status.logins, status.startups
            ),
        ),
        Ok(_) | Err(_) => findings.bad(
            "gateway",
            "no gateway answers at its control socket",
            "login-gateway status",
        ),
    }
    if let Ok(text) = fs::read_to_string("/etc/nologin") {
        findings.bad(
            "nologin",
            format!("/etc/nologin keeps everybody but root out: {}", text.trim()),
            "remove the file; pam_nologin.so reads it",
        );
    }
}

/// What the directory says; whether it knows the user.
fn directory(settings: &Settings, user: &str, findings: &mut Findings) -> bool {
    let Some(socket) = &settings.directory_socket else {
        return false;
    };
    match Client::new(socket).explain(user, settings.directory_timeout) {
        Err(error) => {
            findings.bad(
                "directory",
                service::exit::chain(&error),
                "login-gateway knows local users and those that NSS has cached: see directoryd's log",
            );
            false
        }
        Ok(said) => {
            let known = said.findings.iter().any(|f| f.what == "entry" && f.good);
            for finding in said
                .findings
                .iter()
                .filter(|f| !f.good || f.what == "entry")
            {
                // A local user is none of the directory's.
                if finding.good || known {
                    findings.add("directory", finding.good, finding.detail.clone(), None);
                }
            }
            if known && !said.may {
                let hint = format!("directoryd explain {user}");
                findings.bad("directory", said.verdict, hint);
            }
            known
        }
    }
}

fn account(
    settings: &Settings,
    options: &Why,
    in_directory: bool,
    findings: &mut Findings,
) -> Option<User> {
    let user = match User::from_name(&options.user) {
        Ok(Some(user)) => user,
        Ok(None) => {
            let hint = if in_directory {
                "the directory has it and NSS does not: see \"directoryd check\""
            } else {
                "add them with \"login-admin user add\"; mind the spelling"
            };
            findings.bad("account", "no such user", hint);
            return None;
        }
        Err(error) => {
            findings.bad(
                "account",
                error.to_string(),
                "see /etc/nsswitch.conf and directoryd's log",
            );
            return None;
        }
    };
    let breaks_glass = settings
        .break_glass
        .as_ref()
        .is_some_and(|b| b.user == user.name);
    if user.uid.is_root() && !breaks_glass {
        findings.bad(
            "account",
            "root does not log in",
            "see break-glass in login-gateway.toml(5)",
        );
    } else {
        findings.good(
            "account",
            format!(
                "uid {}, gid {}, home '{}'",
                user.uid,
                user.gid,
                user.dir.display()
            ),
        );
    }
    shell(&user, findings);
    match with_files_of(user.uid.as_raw(), || fs::metadata(&user.dir)) {
        Ok(meta) if meta.uid() != user.uid.as_raw() => findings.good(
            "home",
            format!(
                "'{}' belongs to uid {}, not to the user",
                user.dir.display(),
                meta.uid()
            ),
        ),
        Ok(_) => {}
        Err(error) if settings.make_home => {
            findings.good("home", format!("{error}: the first login makes it"));
        }
        Err(error) => findings.good("home", format!("{error}: the shell starts in /")),
    }
    Some(user)
}

fn shell(user: &User, findings: &mut Findings) {
    let shell = match user.shell.to_str() {
        None | Some("") => Path::new("/bin/sh"),
        Some(_) => &user.shell,
    };
    let runs =
        fs::metadata(shell).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let shown = shell.display();
    if !runs {
        let hint = "install it in the image, or change the login shell in the directory";
        findings.bad(
            "shell",
            format!("'{shown}' is not there or no program"),
            hint,
        );
    } else if ["nologin", "false"]
        .iter()
        .any(|name| shell.ends_with(name))
    {
        let hint = "the account is meant to have no shell; sftp by a match block works";
        findings.bad("shell", format!("'{shown}' ends every login"), hint);
    }
}

fn groups_of(user: &User) -> Vec<String> {
    let name = CString::new(user.name.clone()).ok();
    let numbers = name.and_then(|name| getgrouplist(&name, user.gid).ok());
    let groups = numbers.unwrap_or_default().into_iter();
    groups
        .filter_map(|gid| Group::from_gid(gid).ok().flatten())
        .map(|group| group.name)
        .collect()
}

/// What the configuration says.
fn rules(options: &Why, groups: &[String], policy: &Policy, findings: &mut Findings) {
    let whom = format!(
        "{} from {}, of {}",
        options.user,
        options.source,
        groups.join(", ")
    );
    if policy.allow_login {
        let ways = policy.authentication_methods.iter().cloned();
        let ways: Vec<String> = ways.map(String::from).collect();
        findings.good("policy", format!("{whom}: {}", ways.join(" or ")));
    } else {
        let hint = format!(
            "login-gateway check --user {} --source {} shows the match block",
            options.user, options.source
        );
        findings.bad("policy", format!("{whom}: allow-login = false"), hint);
    }
    for list in &policy.revoked_keys {
        if let Err(error) = fs::File::open(list) {
            findings.bad(
                "revoked-keys",
                format!("'{}': {error}; nobody logs in with a key", list.display()),
                "put the list back, or take it out of revoked-keys",
            );
        }
    }
}

/// The files of keys, with the user's rights. Only looked at from outside: what a user has written is
/// not read here.
fn keys(policy: &Policy, user: &User, findings: &mut Findings) {
    for file in &policy.authorized_keys_files {
        let Some(text) = file.to_str() else { continue };
        let home = user.dir.to_str().unwrap_or_default();
        let path = text.replace("%u", &user.name).replace("%h", home);
        let path = user.dir.join(path);
        match fs::metadata(&path) {
            Ok(meta) => match writable_by_others(&path, user) {
                None => findings.good(
                    "keys",
                    format!("'{}', {} bytes", path.display(), meta.len()),
                ),
                Some(culprit) => {
                    let culprit = culprit.display();
                    // Keys of the directory may still be good.
                    findings.good(
                        "keys",
                        format!("'{}' is not read: others may write '{culprit}'; chmod go-w '{culprit}'", path.display()),
                    );
                }
            },
            Err(error) => findings.good("keys", format!("'{}': {error}", path.display())),
        }
    }
}

/// What of a file and its folders somebody else could have written.
fn writable_by_others(path: &Path, user: &User) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let culprit = path.ancestors().find(|part| {
        fs::metadata(part).is_ok_and(|meta| {
            let owner = meta.uid() == 0 || meta.uid() == user.uid.as_raw();
            // A folder with the sticky bit is /tmp's kind.
            !owner || meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0
        })
    });
    culprit.map(Path::to_owned)
}
