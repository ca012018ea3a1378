//! Logging: structured events on stderr, as text or as JSON lines. Which events exist belongs to
//! each daemon; audit events carry the target `audit` and no level hides them.

mod queue;

use clap::{Args, ValueEnum};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Target of the events that say who did what.
pub const AUDIT: &str = "audit";

/// The two shapes of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// `time level target: event=... field=value`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Options that every daemon takes; flatten them into its own.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Shape of the log lines on stderr.
    #[arg(
        long,
        env = "LOG_FORMAT",
        value_enum,
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,
    /// Least severe level that is logged: error, warn, info, debug or trace.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: LevelFilter,
}

/// Starts logging as the environment says, for programs that a daemon starts: it hands its own
/// choice down in `LOG_FORMAT` and `LOG_LEVEL`.
pub fn init_from_env() {
    let get = |name: &str| std::env::var(name).ok();
    init(&LogArgs {
        log_format: get("LOG_FORMAT")
            .and_then(|f| LogFormat::from_str(&f, true).ok())
            .unwrap_or_default(),
        log_level: get("LOG_LEVEL")
            .and_then(|l| l.parse().ok())
            .unwrap_or(LevelFilter::INFO),
    });
}

/// The variables by which [`init_from_env`] of another program starts logging as `args` say.
pub fn to_env(args: &LogArgs) -> [(&'static str, String); 2] {
    let format = match args.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    [
        ("LOG_FORMAT", format.to_owned()),
        ("LOG_LEVEL", args.log_level.to_string()),
    ]
}

/// Starts logging to stderr; call once, before the first event. Events with the target [`AUDIT`]
/// are written whatever the level, from info up.
pub fn init(args: &LogArgs) {
    let filter = Targets::new()
        .with_default(args.log_level)
        .with_target(AUDIT, args.log_level.max(LevelFilter::INFO));
    let layer = fmt::layer().with_writer(|| queue::Stderr).with_ansi(false);
    let layer = match args.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
}

/// From here on a thread writes the log, a few milliseconds later, for programs that must not wait for
/// whoever reads it. Call it before a filter forbids new threads; [`run`](crate::run) writes the last lines.
///
/// # Errors
/// If there is no thread to be had: lines are then written by whoever logs, as before.
pub fn write_in_background() -> std::io::Result<()> {
    queue::start()
}

/// Waits a moment for lines that are not written yet.
pub fn flush() {
    queue::flush();
}
