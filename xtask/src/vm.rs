//! Other kernels than this machine's, each in a small machine of its own: what
//! depends on the kernel, and on drivers that namespaces do not have.
//!
//! # Layout
//! - [`fetch`]: qemu and Debian's kernels, unpacked below `target/vm`
//! - [`modules`]: kernel modules in the order they need
//! - [`initrd`]: a file system with the tests in it
//! - [`boot`]: one machine, from start to result

mod boot;
mod fetch;
mod initrd;
mod modules;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    run::{cargo, find, shown, step},
    tally::Tally,
};
use boot::Emulator;
pub use fetch::{Extent, package};

/// A kernel to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Debian 12's own: no TCX.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 12's newer one.
    #[value(name = "6.12")]
    V6_12,
    /// User-mode Linux: a kernel without BTF.
    Uml,
}

impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Uml => "uml",
        }
    }

    fn package(self) -> Result<String> {
        match self {
            Self::V6_1 => fetch::kernel_of("linux-image-cloud-amd64"),
            Self::V6_12 => fetch::kernel_of("linux-image-6.12-cloud-amd64"),
            Self::Uml => Ok("user-mode-linux".into()),
        }
    }
}

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only on this kernel.
    pub kernel: Option<Kernel>,
    /// The tests of the program and the namespaces, too.
    pub everything: bool,
    /// Only tests whose names contain this, with all they print.
    pub filter: Option<String>,
}

/// Drivers and devices that the tests use; those built in are passed over.
const MODULES: [&str; 11] = [
    "virtio_pci",
    "virtio_net",
    "veth",
    "8021q",
    "dummy",
    "bridge",
    "tun",
    "sch_ingress",
    "cls_bpf",
    "nf_conntrack",
    "crc32c_generic",
];

/// Builds the tests with optimisations; returns programs and their names in the machine.
fn programs(object: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    step("building the tests for other kernels");
    let mut command = cargo();
    command.args([
        "test",
        "--release",
        "--no-run",
        "--message-format=json-render-diagnostics",
        "--package",
        "sg-userspace",
    ]);
    command.args(["--test", "vm", "--test", "program", "--test", "namespaces"]).env("SG_EBPF_OBJECT", object);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {}", shown(&command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(&command), output.status);
    }
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo says what is not JSON")?;
        let name = message["target"]["name"].as_str();
        let known = ["vm", "program", "namespaces", "sgd", "sgctl"].into_iter().find(|n| Some(*n) == name);
        if let (Some(name), Some(path)) = (known, message["executable"].as_str()) {
            found.push((name, PathBuf::from(path)));
        }
    }
    Ok(found)
}

/// Finds the one directory or file in a directory whose name starts so.
fn starting(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths = entries.filter_map(|e| Some(e.ok()?.path()));
    paths
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        .with_context(|| format!("there is no {prefix}* in {}", dir.display()))
}

/// Whether user-mode Linux runs on this CPU: its 6.1 hands registers over in a
/// buffer that is too small where the CPU has AMX, and its first process dies.
fn user_mode_runs() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    !flags.split_whitespace().any(|flag| flag == "amx_tile")
}

fn on(kernel: Kernel, choice: &Choice, programs: &[(&'static str, PathBuf)]) -> Result<Tally> {
    let hidden = kernel == Kernel::Uml && !user_mode_runs();
    if hidden {
        step("user-mode Linux does not run on a CPU with AMX: Debian's 6.1 takes its place, with its BTF hidden");
    }
    let user_mode = kernel == Kernel::Uml && !hidden;
    let root = package(&if hidden { Kernel::V6_1 } else { kernel }.package()?, Extent::Alone)?;
    let busybox = package("busybox-static", Extent::Alone)?.join("bin/busybox");
    let (emulator, image, modules) = if user_mode {
        let dir = root.join("usr/lib/uml/modules");
        (Emulator::UserMode, root.join("usr/bin/linux.uml"), modules::closure(&dir, &["ipv6"])?)
    } else {
        let qemu = match find("qemu-system-x86_64") {
            Some(_) => PathBuf::new(),
            None => package("qemu-system-x86", Extent::WithDependencies)?,
        };
        let dir = starting(&root.join("lib/modules"), "")?;
        (Emulator::Qemu(qemu), starting(&root.join("boot"), "vmlinuz-")?, modules::closure(&dir, &MODULES)?)
    };
    let name = kernel.name();
    let mut script = format!("export SG_VM={name} SG_BIN=/bin SG_TEST_REQUIRE=1\nrc=0\n");
    if hidden {
        script += "busybox mount -t tmpfs none /sys/kernel/btf\n";
    }
    let suites: &[&str] = match (kernel, choice.everything) {
        (Kernel::Uml, _) => &["vm without_btf"],
        (_, false) => &["vm --skip without_btf"],
        (_, true) => &["vm --skip without_btf", "program", "namespaces"],
    };
    let output = match &choice.filter {
        Some(filter) => format!("--nocapture {filter}"),
        None => "--show-output".into(),
    };
    for suite in suites {
        // Tests with cards wait for one another; those of the namespaces for time.
        let threads = if suite.starts_with("vm") { 4 } else { 2 };
        script += &format!("/bin/{suite} --test-threads={threads} {output} || rc=$?\n");
    }
    script += "echo \"@@RESULT rc=$rc\"";
    let contents = initrd::Contents { busybox: &busybox, modules: &modules, programs, script: &script };
    let initrd = fetch::directory().join(format!("initrd-{name}.cpio"));
    fs::write(&initrd, initrd::build(&contents)?).with_context(|| format!("cannot write {}", initrd.display()))?;
    step(&format!("kernel {name}"));
    let begin = Instant::now();
    let counts =
        boot::boot(&emulator, &image, &initrd, choice.everything).with_context(|| format!("on kernel {name}"))?;
    step(&format!(
        "kernel {name}: {} passed, {} failed in {:.1} s",
        counts.passed,
        counts.failed,
        begin.elapsed().as_secs_f32()
    ));
    Ok(counts)
}

/// Runs the tests on one kernel, or on all one after another; with `everything`
/// also those of the program and the namespaces.
///
/// # Errors
/// No kernel to be had, a machine without a result.
pub fn test(object: &Path, choice: &Choice) -> Result<Tally> {
    crate::setup::packages("ethtool, which goes into the machines", &["ethtool"])?;
    let programs = programs(object)?;
    let mut sum = Tally::default();
    for &kernel in Kernel::value_variants().iter().filter(|k| choice.kernel.is_none_or(|only| only == **k)) {
        let counts = on(kernel, choice, &programs)?;
        if counts.passed + counts.failed == 0 && choice.filter.is_none() {
            bail!("no test ran on kernel {}", kernel.name());
        }
        sum.add(counts);
    }
    Ok(sum)
}

/// The task.
///
/// # Errors
/// A test that failed, a kernel that could not be had.
pub fn task(choice: &Choice) -> Result<()> {
    let object = crate::build::ebpf(false)?;
    let counts = test(&object, choice)?;
    if counts.failed > 0 {
        bail!("{} tests failed", counts.failed);
    }
    println!("other kernels: {} passed", counts.passed);
    Ok(())
}
