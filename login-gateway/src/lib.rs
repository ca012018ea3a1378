//! What the fuzz targets reach of the listener: the reader of sshd_config. The program itself is in
//! `main.rs`.
#![forbid(unsafe_code)]

pub mod sshd_config;
