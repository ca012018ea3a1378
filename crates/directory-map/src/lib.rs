//! directory-map
