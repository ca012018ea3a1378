//! The pages of the health endpoint: whether the gateway lives, whether it takes logins, and its
//! numbers in Prometheus' text format. Names carry the prefix `login_gateway_`.

use std::fmt::Write as _;

use gateway_wire::accept::Health;
use gateway_wire::doors::Failure;
use gateway_wire::monitor::Method;
use gateway_wire::numbers::{BOUNDS, Channel, NoLogin, Step, Verdict};

use crate::http::{self, NoRequest};

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to what has been received, or `None` if the request is not complete.
pub fn respond(received: &[u8], health: &Health) -> Option<Vec<u8>> {
    let request = match http::parse(received) {
        Ok(request) => request,
        Err(NoRequest::NeedsMore) => return None,
        Err(NoRequest::Bad) => return Some(http::answer("400 Bad Request", TEXT, "", false)),
        Err(NoRequest::Method) => {
            return Some(http::answer("405 Method Not Allowed", TEXT, "", false));
        }
    };
    let (status, content_type, body) = match request.path {
        "/healthz" => ("200 OK", TEXT, "ok\n".to_owned()),
        "/readyz" if health.ready => ("200 OK", TEXT, "ready\n".to_owned()),
        "/readyz" => (
            "503 Service Unavailable",
            TEXT,
            "no new logins\n".to_owned(),
        ),
        "/metrics" => ("200 OK", METRICS, metrics(health)),
        _ => ("404 Not Found", TEXT, String::new()),
    };
    Some(http::answer(status, content_type, &body, request.head))
}

fn metrics(health: &Health) -> String {
    let mut text = state(health);
    logins(&mut text, health);
    text
}

/// One metric with its values by labels.
fn metric(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
) {
    let _ = writeln!(text, "# HELP login_gateway_{name} {help}");
    let _ = writeln!(text, "# TYPE login_gateway_{name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "login_gateway_{name}{} {value}", labels.as_ref());
    }
}

/// What logins do, and how far they come.
fn logins(text: &mut String, health: &Health) {
    let numbers = &health.numbers;
    let attempts = Method::ALL.into_iter().zip(numbers.attempts);
    let attempts = attempts.flat_map(|(method, verdicts)| {
        let method = method.name();
        let verdicts = Verdict::ALL.into_iter().zip(verdicts);
        verdicts.map(move |(verdict, number)| {
            let result = verdict.name();
            (
                format!("{{method=\"{method}\",result=\"{result}\"}}"),
                number,
            )
        })
    });
    metric(
        text,
        "auth_attempts_total",
        "counter",
        "Attempts to authenticate: accepted completes a way in, partial is followed by another factor.",
        attempts,
    );
    metric(
        text,
        "login_failures_total",
        "counter",
        "Connections that did not become a login, or whose processes crashed.",
        NoLogin::ALL
            .into_iter()
            .zip(numbers.no_logins)
            .map(|(why, number)| (format!("{{reason=\"{}\"}}", why.name()), number)),
    );
    steps(text, health);
    metric(
        text,
        "terminals",
        "gauge",
        "Terminals of logins.",
        [("", health.terminals.into())],
    );
    metric(
        text,
        "detached_logins",
        "gauge",
        "Logins whose line has dropped and whose shells wait; they are logins as well.",
        [("", health.detached.into())],
    );
    let by_kind = |numbers: [u64; Channel::ALL.len()]| {
        let all = Channel::ALL.into_iter().zip(numbers);
        all.map(|(channel, number)| (format!("{{kind=\"{}\"}}", channel.name()), number))
    };
    metric(
        text,
        "channels",
        "gauge",
        "Channels that are open: programs of logins and forwarded connections.",
        by_kind(health.open),
    );
    metric(
        text,
        "channels_total",
        "counter",
        "Channels that were opened.",
        by_kind(numbers.channels),
    );
    metric(
        text,
        "bytes_total",
        "counter",
        "Bytes of channels, in: from clients, out: to clients.",
        [
            ("{direction=\"in\"}", numbers.bytes_in),
            ("{direction=\"out\"}", numbers.bytes_out),
        ],
    );
    metric(
        text,
        "draining",
        "gauge",
        "Whether the gateway ends with its last login.",
        [("", health.draining.into())],
    );
    metric(
        text,
        "drains_total",
        "counter",
        "How often a drain began.",
        [("", numbers.drains)],
    );
}

/// The histogram of the steps of logins.
fn steps(text: &mut String, health: &Health) {
    const NAME: &str = "login_gateway_login_step_seconds";
    let _ = writeln!(text, "# HELP {NAME} Time that the steps of logins took.");
    let _ = writeln!(text, "# TYPE {NAME} histogram");
    for (step, times) in Step::ALL.into_iter().zip(health.numbers.steps) {
        let step = step.name();
        let bounds = BOUNDS
            .iter()
            .map(|millis| (f64::from(*millis) / 1000.0).to_string());
        let mut sum = 0_u64;
        for (bound, number) in bounds.chain(["+Inf".to_owned()]).zip(times.buckets) {
            sum += number;
            let _ = writeln!(
                text,
                "{NAME}_bucket{{step=\"{step}\",le=\"{bound}\"}} {sum}"
            );
        }
        let (whole, rest) = (times.micros / 1_000_000, times.micros % 1_000_000);
        let _ = writeln!(text, "{NAME}_sum{{step=\"{step}\"}} {whole}.{rest:06}");
        let _ = writeln!(text, "{NAME}_count{{step=\"{step}\"}} {sum}");
    }
}

/// What the gateway is at, and whom it does not let in.
fn state(health: &Health) -> String {
    let counts = &health.counts;
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
        metric(&mut text, name, kind, help, values.iter().copied());
    };
    metric(
        "ready",
        "gauge",
        "Whether new logins are taken.",
        &[("", health.ready.into())],
    );
    metric(
        "startups",
        "gauge",
        "Connections that have not yet authenticated.",
        &[("", health.startups.into())],
    );
    metric(
        "logins",
        "gauge",
        "Authenticated connections.",
        &[("", health.logins.into())],
    );
    metric(
        "connections_total",
        "counter",
        "Connections taken.",
        &[("", health.connections_total)],
    );
    metric(
        "logins_total",
        "counter",
        "Connections that authenticated.",
        &[("", health.logins_total)],
    );
    metric(
        "refused_total",
        "counter",
        "Connections closed because max-startups was reached.",
        &[("", health.refused_total)],
    );
    let away = &health.turned_away;
    metric(
        "turned_away_total",
        "counter",
        "Connections closed before max-startups was reached, and logins refused.",
        &[
            ("{reason=\"early-drop\"}", away.early),
            ("{reason=\"per-source-max-startups\"}", away.source),
            ("{reason=\"penalty\"}", away.penalty),
            ("{reason=\"penalty-overflow\"}", away.overflow),
            ("{reason=\"max-logins\"}", away.logins),
        ],
    );
    let kinds = Failure::ALL.map(|kind| format!("{{kind=\"{}\"}}", kind.name()));
    let penalties: Vec<_> = kinds
        .iter()
        .map(String::as_str)
        .zip(health.penalties)
        .collect();
    metric(
        "penalties_total",
        "counter",
        "Failures that cost their source time.",
        &penalties,
    );
    metric(
        "penalised_sources",
        "gauge",
        "Sources whose connections are closed now.",
        &[("", health.penalised.into())],
    );
    metric(
        "proxy_headers_total",
        "counter",
        "Connections from the networks of proxy-protocol.from, by what they began with.",
        &[
            ("{result=\"proxied\"}", counts.proxied),
            ("{result=\"local\"}", counts.local),
            ("{result=\"bare\"}", counts.bare),
            ("{result=\"malformed\"}", counts.malformed),
            ("{result=\"unfinished\"}", counts.unfinished),
            ("{result=\"crowded-out\"}", counts.crowded_out),
        ],
    );
    metric(
        "drained_total",
        "counter",
        "Connections turned away since no more logins are taken.",
        &[("", counts.drained)],
    );
    text
}

#[cfg(test)]
mod tests {
    use gateway_wire::accept::Counts;

    use super::*;

    fn page(request: &str, ready: bool) -> String {
        let health = Health {
            ready,
            logins: 3,
            counts: Counts {
                local: 5,
                ..Counts::default()
            },
            ..Health::default()
        };
        String::from_utf8(respond(request.as_bytes(), &health).unwrap()).unwrap()
    }

    #[test]
    fn each_page_and_each_refusal() {
        let check = |request: &str, ready: bool, status: &str| {
            let page = page(&format!("{request} HTTP/1.1\r\n\r\n"), ready);
            assert!(page.starts_with(&format!("HTTP/1.1 {status} ")), "{page}");
            assert!(page.contains("\r\nConnection: close\r\n"), "{page}");
        };
        check("GET /healthz", false, "200");
        check("GET /readyz", false, "503");
        check("GET /readyz", true, "200");
        check("GET /metrics", true, "200");
        check("GET /", true, "404");
        check("GET /healthz/", true, "404");
        check("DELETE /healthz", true, "405");
        check("nonsense", true, "400");
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let get = page("GET /metrics HTTP/1.1\r\n\r\n", true);
        let head = page("HEAD /metrics HTTP/1.1\r\n\r\n", true);
        assert!(head.ends_with("\r\n\r\n") && get.starts_with(&head));
    }

    #[test]
    fn metrics_are_named_and_typed() {
        let page = page("GET /metrics HTTP/1.1\r\n\r\n", true);
        let (_, body) = page.split_once("\r\n\r\n").unwrap();
        for line in ["login_gateway_ready 1", "login_gateway_logins 3"] {
            assert!(body.lines().any(|l| l == line), "{line}: {body}");
        }
        assert!(
            body.contains("proxy_headers_total{result=\"local\"} 5"),
            "{body}"
        );
        for line in body.lines().filter(|l| !l.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let histogram = ["_bucket", "_sum", "_count"];
            let name = histogram
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(body.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
