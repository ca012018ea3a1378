//! Who goes first when memory runs out: the user's programs, not the processes that serve everybody.

use std::fs;
use std::io;

/// Of the process, proc_pid_oom_score_adj(5).
const FILE: &str = "/proc/self/oom_score_adj";
/// Added for everything of a login: a fifth of all memory counts as used on top.
const MORE: i32 = 200;
/// The largest value.
const MOST: i32 = 1000;

/// Raises the score of this process and of what it starts.
///
/// # Errors
/// If the file cannot be read or written; raising needs no right.
pub fn yield_to_the_service() -> io::Result<()> {
    let now: i32 = fs::read_to_string(FILE)?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    fs::write(FILE, (now + MORE).min(MOST).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_raised_to_the_most() {
        let score = || -> i32 { fs::read_to_string(FILE).unwrap().trim().parse().unwrap() };
        let before = score();
        yield_to_the_service().unwrap();
        assert_eq!(score(), (before + MORE).min(MOST));
        for _ in 0..10 {
            yield_to_the_service().unwrap();
        }
        assert_eq!(score(), MOST);
    }
}
