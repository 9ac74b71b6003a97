//! Programs that the benchmark compares with: nothing at all, the least that
//! could work, and a source of packets with ever new senders.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[path = "bench/programs.rs"]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this binary is a kernel program: `cargo xtask bench` builds it for the kernel");
}
