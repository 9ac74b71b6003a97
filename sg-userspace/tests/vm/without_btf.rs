//! A kernel without type information: refused in words, not by a crash.

use super::machine::kernel;
use crate::world::*;
use sg_userspace::testbed::{Daemon, Net};

#[test]
fn the_daemon_says_what_the_kernel_lacks() {
    let Some(_) = kernel() else { return };
    assert!(!std::path::Path::new("/sys/kernel/btf/vmlinux").exists());
    let net = Net::new("alone").unwrap();
    let mut daemon = Daemon::new(&net, bin()).unwrap();
    let e = daemon.start().unwrap_err().to_string();
    println!("{e}");
    assert!(e.contains("this kernel has no BTF (/sys/kernel/btf/vmlinux is missing)"), "{e}");
    assert!(e.contains("CONFIG_DEBUG_INFO_BTF=y"), "{e}");
}
