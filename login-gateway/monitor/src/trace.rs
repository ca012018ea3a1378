//! A trace of each login, step by step, for OpenTelemetry: one line of OTLP's JSON appended to a file, which a collector
//! reads (receiver `otlpjsonfile`). So root's process speaks no network protocol for it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_wire::monitor::Connection;
use gateway_wire::numbers::Step;
use nix::libc::{O_CLOEXEC, O_NOFOLLOW};
use serde::Serialize;
use serde_json::{Value, json};

/// Bytes that the file may have: 150,000 logins. Where nobody rotates it, no more is written.
const MAX_FILE: u64 = 256 << 20;

/// A connection so far.
#[derive(Debug)]
pub struct Trace {
    begun: Instant,
    at: SystemTime,
    steps: Vec<(Step, Instant, Instant)>,
}

/// How a login went.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// This user is in.
    Opened(&'a str),
    /// Nobody got in.
    Refused,
}

/// OTLP's span, as far as it is needed (opentelemetry-proto, trace.proto; ids are hexadecimal in JSON).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: &'a str,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Value>,
    status: Value,
}

/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_SERVER`, `STATUS_CODE_OK`, `STATUS_CODE_ERROR`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const OK: u8 = 1;
const ERROR: u8 = 2;

impl Trace {
    /// Begins with the connection.
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            at: SystemTime::now(),
            steps: Vec::new(),
        }
    }

    /// A step that ends now.
    pub fn took(&mut self, step: Step, begun: Instant) {
        self.took_until(step, begun, Instant::now());
    }

    /// A step that has ended.
    pub fn took_until(&mut self, step: Step, begun: Instant, ended: Instant) {
        // A client decides how often it says another name.
        if self.steps.len() < 32 {
            self.steps.push((step, begun, ended));
        }
    }

    /// Appends it to the file.
    ///
    /// # Errors
    /// Those of the file; `FileTooLarge` if nobody has rotated it.
    pub fn write(&self, file: &Path, connection: &Connection, result: Ended<'_>) -> io::Result<()> {
        let line = self.line(connection, result, Instant::now())?;
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(O_NOFOLLOW | O_CLOEXEC)
            .open(file)?;
        if file.metadata()?.len() > MAX_FILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // One call, so that lines of several logins do not mix.
        file.write_all(line.as_bytes())
    }

    fn line(&self, connection: &Connection, result: Ended<'_>, now: Instant) -> io::Result<String> {
        let nanos = |at: Instant| {
            let since = at.saturating_duration_since(self.begun);
            let at = self.at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO) + since;
            at.as_nanos().to_string()
        };
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        // Eight digits of the login's name are all that is needed to find its trace by its log; the time makes it unique.
        let begun = self.at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let trace_id = format!("{:0>8.8}{:024x}", connection.login, begun.as_nanos());
        let root = format!("{:016x}", 1);
        let mut attributes = vec![
            text("login", &connection.login),
            text(
                "client.address",
                &connection.endpoints.source.ip().to_string(),
            ),
        ];
        let code = match result {
            Ended::Opened(user) => {
                attributes.push(text("user.name", user));
                OK
            }
            Ended::Refused => ERROR,
        };
        let mut spans = vec![Span {
            trace_id: &trace_id,
            span_id: root.clone(),
            parent_span_id: None,
            name: "login",
            kind: SERVER,
            start_time_unix_nano: nanos(self.begun),
            end_time_unix_nano: nanos(now),
            attributes,
            status: json!({"code": code}),
        }];
        for (n, (step, begun, ended)) in self.steps.iter().enumerate() {
            spans.push(Span {
                trace_id: &trace_id,
                span_id: format!("{:016x}", n + 2),
                parent_span_id: Some(root.clone()),
                name: step.name(),
                kind: INTERNAL,
                start_time_unix_nano: nanos(*begun),
                end_time_unix_nano: nanos(*ended),
                attributes: Vec::new(),
                status: json!({}),
            });
        }
        let service = [text("service.name", "login-gateway")];
        let scope = json!({"name": "login-gateway", "version": env!("CARGO_PKG_VERSION")});
        let line = json!({"resourceSpans": [{
            "resource": {"attributes": service},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }]});
        Ok(format!("{line}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces");
        let endpoints = "192.0.2.7:5".parse().unwrap();
        let connection = Connection {
            login: "0123abcd".into(),
            endpoints: gateway_wire::accept::Endpoints {
                source: endpoints,
                destination: endpoints,
            },
        };
        let trace = Trace::begin();
        trace
            .write(&path, &connection, Ended::Opened("alice\"\n"))
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        let read: Value = serde_json::from_str(&text).unwrap();
        let root = &read["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(root["traceId"].as_str().unwrap().len(), 32);
        let user = &root["attributes"][2]["value"]["stringValue"];
        assert_eq!(user, "alice\"\n");
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .set_len(MAX_FILE + 1)
            .unwrap();
        let full = trace.write(&path, &connection, Ended::Refused);
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
