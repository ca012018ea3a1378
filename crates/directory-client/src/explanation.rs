//! Why a user may or may not log in, as the daemon sees it: for administrators and their tools.
//!
//! Texts for people, in a fixed order; nothing is decided from them.

/// The answer to "why can this user not log in".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// True if nothing known here stands against a login.
    pub may: bool,
    /// The one sentence that says it.
    pub verdict: String,
    /// What that rests on.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What: `entry`, `server`, `account`, `rule`, `password`, `keys`, `groups`.
    pub what: String,
    /// False if this alone keeps the user out.
    pub good: bool,
    /// What was found.
    pub detail: String,
}
