//! directory-client
