//! What we lack, by case, with the reason.

/// Case and reason.
pub const LACKING: &[(&str, &str)] = &[];
