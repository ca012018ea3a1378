//! The name by which glibc loads the module.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnss_directory.so.2");
    println!("cargo:rerun-if-changed=build.rs");
}
