//! Running a program to its end with an input, a deadline and all it said.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How a program ended.
#[derive(Debug)]
pub struct Done {
    /// Exit code; 124 if it was stopped at the deadline, -1 if a signal ended it.
    pub code: i32,
    /// Standard output, as text.
    pub out: String,
    /// Standard error, as text.
    pub err: String,
}

impl Done {
    /// The output without its last line end, if the program succeeded.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out.trim_end()
    }
}

/// Runs a command without input, for at most a minute.
#[track_caller]
pub fn run(command: &mut Command) -> Done {
    run_with(command, b"", Duration::from_secs(60))
}

/// Runs a command with an input and a limit.
#[track_caller]
pub fn run_with(command: &mut Command, input: &[u8], limit: Duration) -> Done {
    let mut limited = Command::new("timeout");
    limited
        .arg("--kill-after=5")
        .arg(limit.as_secs().to_string());
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    let mut child = limited
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a program");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A program may end before it has read everything.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("wait for a program");
    feeder.join().expect("feed a program");
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
