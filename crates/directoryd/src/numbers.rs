//! What is counted and timed while the daemon runs, and how that is read by Prometheus.
//!
//! Look-ups that libc makes in its own map reach nobody and are counted nowhere.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use directory_client::{Domain, Status};

/// Upper bounds of the times, in milliseconds.
const BOUNDS: [u64; 9] = [1, 5, 10, 50, 100, 500, 1000, 5000, 30_000];

/// The daemon's numbers.
#[derive(Debug, Default)]
pub struct Numbers {
    /// By path, question and result.
    lookups: Mutex<BTreeMap<[&'static str; 3], u64>>,
    /// By what the server was asked for.
    times: Mutex<BTreeMap<&'static str, Times>>,
    /// Whether each server let us in when it was last tried.
    servers: Mutex<BTreeMap<String, bool>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Times {
    within: [u64; BOUNDS.len()],
    count: u64,
    micros: u64,
}

impl Numbers {
    /// A question that was answered.
    pub fn answered(&self, path: &'static str, question: &'static str, result: &'static str) {
        *lock(&self.lookups)
            .entry([path, question, result])
            .or_default() += 1;
    }

    /// How long a server took.
    pub fn took(&self, what: &'static str, time: Duration) {
        let mut all = lock(&self.times);
        let times = all.entry(what).or_default();
        let millis = time.as_millis();
        for (count, bound) in times.within.iter_mut().zip(BOUNDS) {
            *count += u64::from(millis <= u128::from(bound));
        }
        times.count += 1;
        times.micros += u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    }

    /// Whether a server let us in.
    pub fn server(&self, uri: &str, up: bool) {
        lock(&self.servers).insert(uri.to_owned(), up);
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self, status: &Status) -> String {
        let mut text = String::new();
        let version = format!("version=\"{}\"", escaped(&status.version));
        one(
            &mut text,
            "build_info",
            "gauge",
            "Always 1.",
            [(version, 1.0)],
        );
        let flag = f64::from;
        let mut single = |name: &str, kind: &str, help: &str, value: f64| {
            one(&mut text, name, kind, help, [(String::new(), value)]);
        };
        single(
            "complete",
            "gauge",
            "The whole directory is held.",
            flag(u8::from(status.complete)),
        );
        single(
            "resolves",
            "gauge",
            "A user was found over the daemon's own socket.",
            flag(u8::from(status.resolves)),
        );
        single(
            "problem",
            "gauge",
            "Something is wrong with the directory.",
            flag(u8::from(!status.problem.is_empty())),
        );
        single(
            "following",
            "gauge",
            "The server tells of changes as they happen.",
            flag(u8::from(
                !status.domains.is_empty() && status.domains.iter().all(|one| one.following),
            )),
        );
        if let Some(count) = status.offline_passwords {
            single(
                "offline_passwords",
                "gauge",
                "Passwords kept for when no server answers.",
                count as f64,
            );
            single(
                "offline_problem",
                "gauge",
                "Something is wrong with those.",
                flag(u8::from(!status.offline_problem.is_empty())),
            );
        }
        if let Some(age) = status.age {
            single(
                "replica_age_seconds",
                "gauge",
                "Since the directory confirmed all of it.",
                age.as_secs_f64(),
            );
        }
        single(
            "generations_total",
            "counter",
            "Maps published.",
            status.generation as f64,
        );
        single(
            "refused_entries",
            "gauge",
            "Entries of the directory that are not served.",
            status.refused as f64,
        );
        domains(&mut text, status);
        let entries = [
            ("users", "directory", status.users),
            ("users", "local", status.local_users),
            ("groups", "directory", status.groups),
            ("groups", "local", status.local_groups),
        ];
        let entries = entries.map(|(kind, origin, count)| {
            (format!("kind=\"{kind}\",origin=\"{origin}\""), count as f64)
        });
        one(&mut text, "entries", "gauge", "Entries served.", entries);
        let servers = lock(&self.servers).clone();
        let up = servers
            .iter()
            .map(|(uri, up)| (format!("uri=\"{}\"", escaped(uri)), flag(u8::from(*up))));
        one(
            &mut text,
            "server_up",
            "gauge",
            "The server let us in when it was last tried.",
            up,
        );
        let connected = servers.keys().map(|uri| {
            (
                format!("uri=\"{}\"", escaped(uri)),
                flag(u8::from(
                    status.domains.iter().any(|one| one.server == *uri),
                )),
            )
        });
        one(
            &mut text,
            "server_connected",
            "gauge",
            "The copy comes from this server.",
            connected,
        );
        let lookups = lock(&self.lookups).clone();
        let lookups = lookups
            .into_iter()
            .map(|([path, question, result], count)| {
                (
                    format!("path=\"{path}\",question=\"{question}\",result=\"{result}\""),
                    count as f64,
                )
            });
        one(
            &mut text,
            "lookups_total",
            "counter",
            "Questions by where they came in and how they ended.",
            lookups,
        );
        self.times(&mut text);
        text
    }

    fn times(&self, text: &mut String) {
        let name = "directoryd_server_seconds";
        let _ = writeln!(text, "# HELP {name} How long directory servers took.");
        let _ = writeln!(text, "# TYPE {name} histogram");
        for (what, times) in lock(&self.times).iter() {
            for (bound, count) in BOUNDS.iter().zip(times.within) {
                let bound = *bound as f64 / 1000.0;
                let _ = writeln!(
                    text,
                    "{name}_bucket{{what=\"{what}\",le=\"{bound}\"}} {count}"
                );
            }
            let (count, seconds) = (times.count, times.micros as f64 / 1e6);
            let _ = writeln!(text, "{name}_bucket{{what=\"{what}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(text, "{name}_sum{{what=\"{what}\"}} {seconds}");
            let _ = writeln!(text, "{name}_count{{what=\"{what}\"}} {count}");
        }
    }
}

/// The same by domain, where there are several.
fn domains(text: &mut String, status: &Status) {
    if status.domains.len() < 2 {
        return;
    }
    let mut each = |name: &str, help: &str, value: fn(&Domain) -> Option<f64>| {
        let values = status.domains.iter().filter_map(|domain| {
            let label = format!("domain=\"{}\"", escaped(&domain.name));
            Some((label, value(domain)?))
        });
        let values: Vec<_> = values.collect();
        one(text, name, "gauge", help, values);
    };
    each("domain_complete", "All of the domain is held.", |domain| {
        Some(f64::from(u8::from(domain.complete)))
    });
    each("domain_problem", "Something is wrong with it.", |domain| {
        Some(f64::from(u8::from(!domain.problem.is_empty())))
    });
    each(
        "domain_following",
        "Its server tells of changes.",
        |domain| Some(f64::from(u8::from(domain.following))),
    );
    each(
        "domain_age_seconds",
        "Since its source confirmed all of it.",
        |domain| domain.age.map(|age| age.as_secs_f64()),
    );
    each("domain_users", "User entries read of it.", |domain| {
        Some(domain.users as f64)
    });
    each("domain_groups", "Group entries read of it.", |domain| {
        Some(domain.groups as f64)
    });
}

fn one(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, f64)>,
) {
    let _ = writeln!(text, "# HELP directoryd_{name} {help}");
    let _ = writeln!(text, "# TYPE directoryd_{name} {kind}");
    for (labels, value) in values {
        let labels = if labels.is_empty() {
            labels
        } else {
            format!("{{{labels}}}")
        };
        let _ = writeln!(text, "directoryd_{name}{labels} {value}");
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_each_number_once() {
        let numbers = Numbers::default();
        numbers.answered("socket", "passwd", "found");
        numbers.answered("socket", "passwd", "found");
        numbers.took("look-up", Duration::from_millis(7));
        numbers.took("look-up", Duration::from_millis(700));
        numbers.server("ldap://a\"b", true);
        let status = Status {
            age: Some(Duration::from_millis(1500)),
            domains: vec![Domain {
                server: "ldap://a\"b".into(),
                ..Domain::default()
            }],
            ..Status::default()
        };
        let text = numbers.text(&status);
        for line in [
            "directoryd_complete 0",
            "directoryd_replica_age_seconds 1.5",
            "directoryd_lookups_total{path=\"socket\",question=\"passwd\",result=\"found\"} 2",
            "directoryd_server_seconds_bucket{what=\"look-up\",le=\"0.01\"} 1",
            "directoryd_server_seconds_bucket{what=\"look-up\",le=\"+Inf\"} 2",
            "directoryd_server_seconds_sum{what=\"look-up\"} 0.707",
            "directoryd_server_connected{uri=\"ldap://a\\\"b\"} 1",
        ] {
            assert_eq!(
                text.lines().filter(|one| *one == line).count(),
                1,
                "{line}\n{text}"
            );
        }
    }
}
