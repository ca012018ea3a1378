//! The commands that start nothing: `check`, and questions to the running daemon.
//!
//! stdout is data; a closed pipe is success.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use directory_client::{Client, Database, Lookup, Record};
use serde_json::json;
use service::{Exit, Failure, config::ConfigError, exit::chain};

use crate::{config::Config, sssd_conf};

/// Longest `sssd.conf` read, in bytes.
const MAX_CONF: u64 = 1 << 20;
/// Where to go on.
const ASK_STATUS: &str = "\"directoryd status\" says why";
/// What the directory server may take for `account`.
const BUDGET: Duration = Duration::from_secs(5);

/// Prints the effective configuration, then every problem on stderr; with `json` both in one object.
///
/// # Errors
/// [`Exit::Config`] if there is one.
pub fn check(config: Result<Config, ConfigError>, json: bool) -> Result<(), Failure> {
    let tell = |config: Option<&Config>, problems: &[String]| match json {
        true => print(format!(
            "{}\n",
            json!({"config": config, "problems": problems})
        )),
        false => Ok(()),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            tell(None, &[chain(&error)])?;
            return Err(error.into());
        }
    };
    let mut problems = config.problems();
    problems.extend(config.problems_in_files());
    tell(Some(&config), &problems)?;
    if !json {
        let text = toml::to_string(&config).map_err(|error| Failure::new(Exit::Software, error))?;
        print(&text)?;
        for problem in &problems {
            eprintln!("directoryd: {problem}");
        }
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new(
            Exit::Config,
            "one problem in the configuration",
        )),
        count => Err(Failure::new(
            Exit::Config,
            format!("{count} problems in the configuration"),
        )),
    }
}

/// Prints how the daemon is.
///
/// # Errors
/// If it does not answer, or does not hold the whole directory yet.
pub fn status(
    client: &Client,
    alive: bool,
    domain: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let status = client.status()?;
    // The only one has no name, and is all that there is.
    let several = status.domains.len() > 1;
    let domains = status.domains.iter().filter(|_| several);
    let age = status.age.map(|age| age.as_secs());
    let text = if json {
        json!({
            "version": status.version,
            "complete": status.complete,
            "resolves": status.resolves,
            "age_seconds": age,
            "generation": status.generation,
            "users": status.users,
            "groups": status.groups,
            "local_users": status.local_users,
            "local_groups": status.local_groups,
            "refused": status.refused,
            "server": status.server,
            "problem": status.problem,
            "offline_passwords": status.offline_passwords,
            "offline_problem": status.offline_problem,
            "domains": domains.map(|domain| json!({
                "name": domain.name,
                "complete": domain.complete,
                "age_seconds": domain.age.map(|age| age.as_secs()),
                "users": domain.users,
                "groups": domain.groups,
                "following": domain.following,
                "server": domain.server,
                "problem": domain.problem,
            })).collect::<Vec<_>>(),
        })
        .to_string()
            + "\n"
    } else {
        let or_none = |text: &str| {
            if text.is_empty() {
                "none".to_owned()
            } else {
                text.to_owned()
            }
        };
        let offline = match (status.offline_passwords, &status.offline_problem) {
            (None, _) => "not kept".to_owned(),
            (Some(count), problem) if problem.is_empty() => format!("{count} kept"),
            (Some(count), problem) => format!("{count} kept; {problem}"),
        };
        let mut text = format!(
            "version: {}\ncomplete: {}\nusers resolve: {}\nage: {}\ngeneration: {}\nusers: {} and {} local\n\
             groups: {} and {} local\nrefused: {}\nserver: {}\nproblem: {}\noffline passwords: {offline}\n",
            status.version,
            if status.complete { "yes" } else { "no" },
            if status.resolves { "yes" } else { "no" },
            age.map_or_else(|| "unknown".to_owned(), |age| format!("{age} s")),
            status.generation,
            status.users,
            status.local_users,
            status.groups,
            status.local_groups,
            status.refused,
            or_none(&status.server),
            or_none(&status.problem),
        );
        for domain in domains {
            text += &format!(
                "domain {}: {}, {} users, {} groups, server {}, problem {}\n",
                domain.name,
                match domain.age {
                    Some(age) => format!("{} s old", age.as_secs()),
                    None => "never read".to_owned(),
                },
                domain.users,
                domain.groups,
                or_none(&domain.server),
                or_none(&domain.problem),
            );
        }
        text
    };
    print(&text)?;
    let complete = match domain {
        None => status.complete,
        Some(name) => {
            let named = status.domains.iter().find(|domain| domain.name == name);
            let missing = || Failure::new(Exit::Usage, format!("there is no domain '{name}'"));
            named.ok_or_else(missing)?.complete
        }
    };
    match (complete, status.resolves) {
        _ if alive => Ok(()),
        (true, true) => Ok(()),
        (false, _) => Err(Failure::new(
            Exit::Failure,
            "the directory has not been replicated yet",
        )),
        (true, false) => Err(Failure::new(Exit::Failure, "users do not resolve")),
    }
}

/// Prints what is known of a user.
///
/// # Errors
/// If the daemon does not answer, or the user is not found.
pub fn account(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let account = match client.account(name, BUDGET)? {
        Lookup::Found(account) => account,
        Lookup::NotFound => {
            return Err(Failure::new(
                Exit::Failure,
                format!("'{name}' is no directory user"),
            ));
        }
        Lookup::Unavailable => {
            let cause = format!("it is not known whether '{name}' exists");
            return Err(Failure::new(Exit::Failure, cause).hint(ASK_STATUS));
        }
    };
    let state = format!("{:?}", account.state).to_lowercase();
    let text = if json {
        json!({
            "name": account.name,
            "uid": account.uid,
            "gid": account.gid,
            "gecos": account.gecos,
            "home": account.home,
            "shell": account.shell,
            "groups": account.groups.iter().map(|(gid, name)| json!({"gid": gid, "name": name}))
                .collect::<Vec<_>>(),
            "ssh_keys": account.ssh_keys,
            "state": state,
            "age_milliseconds": account.age.as_millis() as u64,
            "fresh": account.fresh,
        })
        .to_string()
            + "\n"
    } else {
        let groups: Vec<String> = account
            .groups
            .iter()
            .map(|(gid, name)| format!("{gid}({name})"))
            .collect();
        let mut text = format!(
            "{}:*:{}:{}:{}:{}:{}\ngroups: {}\nstate: {state}\nage: {} s{}\n",
            account.name,
            account.uid,
            account.gid,
            account.gecos,
            account.home,
            account.shell,
            groups.join(" "),
            account.age.as_secs(),
            if account.fresh { ", fresh" } else { "" },
        );
        for key in &account.ssh_keys {
            text += &format!("key: {key}\n");
        }
        text
    };
    print(&text)
}

/// Prints what libc sees, and where it comes from.
///
/// # Errors
/// If the daemon does not answer, or there is no such entry.
pub fn getent(client: &Client, database: Database, key: &str, json: bool) -> Result<(), Failure> {
    let entry = match client.entry(database, key)? {
        Lookup::Found(entry) => entry,
        Lookup::NotFound => {
            return Err(Failure::new(Exit::Failure, format!("there is no '{key}'")));
        }
        Lookup::Unavailable => {
            let why =
                format!("whether there is a '{key}' is not known: the directory was never read");
            return Err(Failure::new(Exit::Failure, why).hint(ASK_STATUS));
        }
    };
    let source = &entry.source;
    let (line, object) = match &entry.record {
        Record::User {
            name,
            uid,
            gid,
            gecos,
            home,
            shell,
        } => (
            format!("{name}:*:{uid}:{gid}:{gecos}:{home}:{shell}\n# {source}\n"),
            json!({"name": name, "uid": uid, "gid": gid, "gecos": gecos, "home": home, "shell": shell,
                "source": source}),
        ),
        Record::Group { name, gid, members } => (
            format!("{name}:*:{gid}:{}\n# {source}\n", members.join(",")),
            json!({"name": name, "gid": gid, "members": members, "source": source}),
        ),
        Record::Groups { user, groups } => {
            let gids: Vec<String> = groups.iter().map(|(gid, ..)| gid.to_string()).collect();
            let mut line = format!("{user} {}\n# {source}\n", gids.join(" "));
            for (gid, name, source) in groups {
                line += &format!("# {gid}({name}) {source}\n");
            }
            let groups: Vec<_> = groups
                .iter()
                .map(|(gid, name, source)| json!({"gid": gid, "name": name, "source": source}))
                .collect();
            (
                line,
                json!({"name": user, "groups": groups, "source": source}),
            )
        }
    };
    print(&if json { format!("{object}\n") } else { line })
}

/// Prints why a user may or may not log in.
///
/// # Errors
/// If the user may not, or the daemon does not answer.
pub fn explain(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let explanation = client.explain(name, BUDGET)?;
    let text = if json {
        json!({
            "user": name,
            "may": explanation.may,
            "verdict": explanation.verdict,
            "findings": explanation.findings.iter().map(|finding| json!({
                "what": finding.what,
                "good": finding.good,
                "detail": finding.detail,
            })).collect::<Vec<_>>(),
        })
        .to_string()
            + "\n"
    } else {
        let mut text = format!("{}\n", explanation.verdict);
        for finding in &explanation.findings {
            let mark = if finding.good { ' ' } else { '!' };
            text += &format!("{mark} {}: {}\n", finding.what, finding.detail);
        }
        text
    };
    print(&text)?;
    if explanation.may {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failure, explanation.verdict))
    }
}

/// Prints an `sssd.conf` in our form, and what it lacks on stderr.
///
/// # Errors
/// If it cannot be read, or with `strict` if something has no equal.
pub fn import_sssd_conf(file: &Path, strict: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Config, format!("read '{}': {error}", file.display()))
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        io::stdin().take(MAX_CONF).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(MAX_CONF).read_to_string(&mut text))
    }
    .map_err(failed)?;
    let imported = sssd_conf::import(&text).map_err(|error| Failure::new(Exit::Config, error))?;
    print(&imported.toml)?;
    for note in &imported.notes {
        eprintln!("directoryd: {note}");
    }
    if strict && !imported.notes.is_empty() {
        let cause = format!("{} things have no equal", imported.notes.len());
        return Err(Failure::new(Exit::Failure, cause));
    }
    Ok(())
}

/// Drops what is kept of passwords, then replicates everything.
///
/// # Errors
/// If the daemon does not answer, or the latter fails.
pub fn flush(client: &Client, json: bool) -> Result<(), Failure> {
    let count = client.forget_passwords()?;
    let refreshed = refresh(client);
    if json {
        let done = json!({"dropped_passwords": count, "refreshed": refreshed.is_ok()});
        print(format!("{done}\n"))?;
    } else if count > 0 {
        print(format!("{count} kept passwords dropped\n"))?;
    }
    refreshed
}

/// Replicates everything.
///
/// # Errors
/// If that fails.
pub fn refresh(client: &Client) -> Result<(), Failure> {
    client
        .refresh()
        .map_err(|error| Failure::new(Exit::Failure, error).hint(ASK_STATUS))
}

/// Prints it; a reader that has seen enough is no failure.
///
/// # Errors
/// Those of standard output.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
