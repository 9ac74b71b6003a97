//! Builds the kernel object into the binaries when `SG_EBPF_OBJECT` names it,
//! else an empty placeholder: a build without the kernel toolchain stays sane.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=SG_EBPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("sg-ebpf.o");
    match env::var_os("SG_EBPF_OBJECT") {
        Some(path) => {
            println!("cargo:rerun-if-changed={}", PathBuf::from(&path).display());
            fs::copy(&path, &out).unwrap_or_else(|e| panic!("SG_EBPF_OBJECT={}: {e}", PathBuf::from(&path).display()));
        }
        None => fs::write(&out, []).expect("OUT_DIR is writable"),
    }
}
