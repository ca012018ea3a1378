//! Counters of what the signer does, and their two forms: Prometheus text and JSON. Who may read
//! them is decided by the socket they are served on.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Upper bounds of the latency histogram, in microseconds.
const BOUNDS: [u64; 12] = [
    25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 100_000, 1_000_000, 10_000_000,
];

/// Whose request it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Root or SlurmUser.
    System,
    /// Anybody else.
    User,
}

/// Why there was no token, or no answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The rules of `access`.
    Access,
    /// The user's identity could not be asked for.
    Identity,
    /// The token could not be put together.
    Token,
    /// Too many requests.
    Rate,
    /// The bytes were no request.
    Malformed,
    /// The request did not come in time.
    TimedOut,
    /// The connection made room for another.
    Evicted,
    /// There was no room.
    TurnedAway,
}

const REASONS: [(Reason, &str); 8] = [
    (Reason::Access, "access"),
    (Reason::Identity, "identity"),
    (Reason::Token, "token"),
    (Reason::Rate, "rate"),
    (Reason::Malformed, "malformed"),
    (Reason::TimedOut, "timed_out"),
    (Reason::Evicted, "evicted"),
    (Reason::TurnedAway, "turned_away"),
];

/// One cluster's numbers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClusterNumbers {
    /// Its name, as its tokens carry it.
    pub cluster: String,
    /// Its socket.
    pub socket: String,
    /// Tokens made for root and SlurmUser.
    pub made_system: u64,
    /// Tokens made for others.
    pub made_user: u64,
    /// Tokens found good.
    pub verified: u64,
    /// Tokens found bad.
    pub not_verified: u64,
    /// Requests without a token or an answer, by reason.
    refused: [u64; REASONS.len()],
    /// Id of the key that signs; none for slurm.key.
    pub kid: Option<String>,
    /// How many keys verify.
    pub keys: usize,
    /// Unix time at which the signing key expires.
    pub key_expires: Option<i64>,
    /// Unix time of the last good load.
    pub key_loaded: i64,
    /// Whether the file on disk is another one, and bad.
    pub key_file_bad: bool,
    /// Unix time of the slurm.conf in use.
    pub conf_modified: Option<i64>,
    /// What the configuration process says of itself.
    pub configuration: Option<serde_json::Value>,
    /// Whether the configuration process still runs; none where there is none.
    pub config_runs: Option<bool>,
    /// Whether there is a socket file for clients to find.
    pub socket_is_there: bool,
}

/// All numbers.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// The default cluster first.
    pub clusters: Vec<ClusterNumbers>,
    /// Connections open now.
    pub connections: usize,
    latency: [u64; BOUNDS.len() + 1],
    latency_sum: Duration,
}

/// The numbers, shared between the loop that counts and the thread that tells.
#[derive(Debug, Clone)]
pub struct Metrics {
    numbers: Arc<Mutex<Numbers>>,
    started: Instant,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(clusters: usize) -> Self {
        let numbers = Numbers {
            clusters: vec![ClusterNumbers::default(); clusters],
            ..Numbers::default()
        };
        Self {
            numbers: Arc::new(Mutex::new(numbers)),
            started: Instant::now(),
        }
    }

    /// All of it; the holder counts and lets go at once.
    pub fn lock(&self) -> MutexGuard<'_, Numbers> {
        // Counters have no state that a panic could leave half done.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers of one cluster.
    pub fn of(&self, cluster: usize, change: impl FnOnce(&mut ClusterNumbers)) {
        if let Some(numbers) = self.lock().clusters.get_mut(cluster) {
            change(numbers);
        }
    }

    /// Counts a request that got no token or no answer.
    pub fn refused(&self, cluster: usize, reason: Reason) {
        self.of(cluster, |numbers| numbers.refused[reason as usize] += 1);
    }

    /// Counts an answer and the time from the whole request to it.
    pub fn answered(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|bound| micros <= *bound);
        let mut numbers = self.lock();
        numbers.latency[at.unwrap_or(BOUNDS.len())] += 1;
        numbers.latency_sum += took;
    }

    /// Prometheus text format, version 0.0.4.
    pub fn prometheus(&self, now: i64) -> String {
        let numbers = self.lock().clone();
        let mut text = Text::default();
        text.gauge("sackd_shim_uptime_seconds", "since the start", |line| {
            line(&[], self.started.elapsed().as_secs_f64());
        });
        text.gauge("sackd_shim_connections", "open now", |line| {
            line(&[], numbers.connections as f64);
        });
        let all = || numbers.clusters.iter().map(|c| (c.cluster.as_str(), c));
        text.counter("sackd_shim_tokens_made_total", "tokens made", |line| {
            for (cluster, c) in all() {
                line(
                    &[("cluster", cluster), ("class", "system")],
                    c.made_system as f64,
                );
                line(
                    &[("cluster", cluster), ("class", "user")],
                    c.made_user as f64,
                );
            }
        });
        text.counter(
            "sackd_shim_tokens_checked_total",
            "tokens checked",
            |line| {
                for (cluster, c) in all() {
                    line(
                        &[("cluster", cluster), ("result", "good")],
                        c.verified as f64,
                    );
                    line(
                        &[("cluster", cluster), ("result", "bad")],
                        c.not_verified as f64,
                    );
                }
            },
        );
        let help = "requests that got no token or no answer";
        text.counter("sackd_shim_refused_total", help, |line| {
            for (cluster, c) in all() {
                for (reason, name) in REASONS {
                    let labels = [("cluster", cluster), ("reason", name)];
                    line(&labels, c.refused[reason as usize] as f64);
                }
            }
        });
        let help = "Unix time at which the signing key expires";
        text.gauge("sackd_shim_key_expires_timestamp_seconds", help, |line| {
            for (cluster, c) in all() {
                if let Some(at) = c.key_expires {
                    line(
                        &[
                            ("cluster", cluster),
                            ("kid", c.kid.as_deref().unwrap_or("")),
                        ],
                        at as f64,
                    );
                }
            }
        });
        let help = "1 if the key file on disk is bad and an older one is in use";
        text.gauge("sackd_shim_key_file_bad", help, |line| {
            for (cluster, c) in all() {
                line(&[("cluster", cluster)], f64::from(u8::from(c.key_file_bad)));
            }
        });
        let help = "since slurm.conf last changed";
        text.gauge("sackd_shim_config_age_seconds", help, |line| {
            for (cluster, c) in all() {
                if let Some(at) = c.conf_modified {
                    line(&[("cluster", cluster)], (now - at).max(0) as f64);
                }
            }
        });
        let help = "1 while the process runs that keeps the configuration";
        text.gauge("sackd_shim_config_process_up", help, |line| {
            for (cluster, c) in all() {
                if let Some(runs) = c.config_runs {
                    line(&[("cluster", cluster)], f64::from(u8::from(runs)));
                }
            }
        });
        let help = "1 while clients find a socket";
        text.gauge("sackd_shim_socket_there", help, |line| {
            for (cluster, c) in all() {
                let there = f64::from(u8::from(c.socket_is_there));
                line(&[("cluster", cluster)], there);
            }
        });
        for (name, field, help) in [
            (
                "sackd_shim_registered",
                "registered",
                "1 if the controller was told where to push",
            ),
            (
                "sackd_shim_last_fetch_timestamp_seconds",
                "last_fetch",
                "Unix time of the last good fetch",
            ),
            (
                "sackd_shim_last_push_timestamp_seconds",
                "last_push",
                "Unix time of the last good push",
            ),
            (
                "sackd_shim_fetch_failures",
                "failures",
                "fetches failed since the last good one",
            ),
        ] {
            text.gauge(name, help, |line| {
                for (cluster, c) in all() {
                    let value = c.configuration.as_ref().and_then(|value| value.get(field));
                    if let Some(value) = value.and_then(number) {
                        line(&[("cluster", cluster)], value);
                    }
                }
            });
        }
        text.histogram(&numbers);
        text.0
    }

    /// How each cluster is, in one line.
    pub fn line(&self) -> String {
        let numbers = self.lock();
        let each = numbers.clusters.iter().map(|cluster| {
            let said = cluster.configuration.as_ref();
            let failures = said.and_then(|value| value["failures"].as_u64());
            let registered = said.and_then(|value| value["registered"].as_bool());
            let configuration = match (failures, registered) {
                _ if cluster.config_runs == Some(false) => "no longer keeps its configuration",
                (Some(failures), _) if failures > 0 => "cannot fetch its configuration",
                (_, Some(true)) => "registered for pushes",
                (Some(_), _) => "has fetched its configuration",
                _ => "a configuration of its own",
            };
            let key = match (cluster.keys, cluster.key_file_bad) {
                (0, _) => ", no key",
                (_, true) => ", the key file is bad",
                _ => "",
            };
            let socket = if cluster.socket_is_there {
                ""
            } else {
                ", its socket was removed"
            };
            format!("{}: {configuration}{key}{socket}", cluster.cluster)
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// The same as JSON, for `sackd-shim status`.
    pub fn json(&self) -> serde_json::Value {
        let numbers = self.lock().clone();
        let clusters = numbers.clusters.iter().map(|cluster| {
            let mut value = serde_json::to_value(cluster).unwrap_or_default();
            let refused = REASONS
                .map(|(reason, name)| (name.to_owned(), cluster.refused[reason as usize].into()));
            value["refused"] = serde_json::Value::Object(refused.into_iter().collect());
            value
        });
        let answered: u64 = numbers.latency.iter().sum();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_s": self.started.elapsed().as_secs(),
            "connections": numbers.connections,
            "answered": answered,
            "mean_latency_us": numbers.latency_sum.as_micros() as u64 / answered.max(1),
            "clusters": clusters.collect::<Vec<_>>(),
        })
    }
}

fn number(value: &serde_json::Value) -> Option<f64> {
    value
        .as_f64()
        .or(value.as_bool().map(|b| f64::from(u8::from(b))))
}

/// The text under construction.
#[derive(Default)]
struct Text(String);

impl Text {
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        fill: impl FnOnce(&mut dyn FnMut(&[(&str, &str)], f64)),
    ) {
        self.family(name, "counter", help, fill);
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        fill: impl FnOnce(&mut dyn FnMut(&[(&str, &str)], f64)),
    ) {
        self.family(name, "gauge", help, fill);
    }

    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        fill: impl FnOnce(&mut dyn FnMut(&[(&str, &str)], f64)),
    ) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        fill(&mut |labels, value| {
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
                .collect();
            let labels = match labels.as_slice() {
                [] => String::new(),
                some => format!("{{{}}}", some.join(",")),
            };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        });
    }

    fn histogram(&mut self, numbers: &Numbers) {
        const NAME: &str = "sackd_shim_request_duration_seconds";
        let _ = writeln!(
            self.0,
            "# HELP {NAME} from the whole request to its answer\n# TYPE {NAME} histogram"
        );
        let mut total = 0;
        for (at, count) in numbers.latency.iter().enumerate() {
            total += count;
            let bound = match BOUNDS.get(at) {
                Some(micros) => (*micros as f64 / 1e6).to_string(),
                None => "+Inf".to_owned(),
            };
            let _ = writeln!(self.0, "{NAME}_bucket{{le=\"{bound}\"}} {total}");
        }
        let _ = writeln!(
            self.0,
            "{NAME}_sum {}\n{NAME}_count {total}",
            numbers.latency_sum.as_secs_f64()
        );
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let metrics = Metrics::new(2);
        metrics.of(0, |c| {
            c.cluster = "la\"b".to_owned();
            c.made_user = 3;
            c.config_runs = Some(false);
            c.key_expires = Some(200);
            c.conf_modified = Some(90);
            c.configuration = Some(serde_json::json!({"registered": true, "last_fetch": 95}));
        });
        metrics.refused(1, Reason::Rate);
        metrics.answered(Duration::from_micros(30));
        metrics.answered(Duration::from_secs(20));
        let text = metrics.prometheus(100);
        for line in [
            "sackd_shim_tokens_made_total{cluster=\"la\\\"b\",class=\"user\"} 3",
            "sackd_shim_refused_total{cluster=\"\",reason=\"rate\"} 1",
            "sackd_shim_config_age_seconds{cluster=\"la\\\"b\"} 10",
            "sackd_shim_registered{cluster=\"la\\\"b\"} 1",
            "sackd_shim_config_process_up{cluster=\"la\\\"b\"} 0",
            "sackd_shim_socket_there{cluster=\"\"} 0",
            "sackd_shim_last_fetch_timestamp_seconds{cluster=\"la\\\"b\"} 95",
            "sackd_shim_request_duration_seconds_bucket{le=\"0.00005\"} 1",
            "sackd_shim_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "sackd_shim_request_duration_seconds_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        // Every sample belongs to a family that was announced.
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
        }
        let json = metrics.json();
        assert_eq!(json["clusters"][1]["refused"]["rate"], 1);
        assert_eq!(json["answered"], 2);
    }
}
