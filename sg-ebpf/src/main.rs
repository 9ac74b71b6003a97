//! Entry points of the kernel program; on any other target, an empty binary.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod kernel;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this binary is a kernel program: `cargo xtask build-ebpf` builds it for the kernel");
}
