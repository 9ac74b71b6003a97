//! One machine: started, listened to, ended.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{as_root, find, shown},
    tally::Tally,
};

/// Seconds a machine may take; the second, for all tests.
const PATIENCE: [&str; 2] = ["480", "1800"];
/// The last line that its first process writes.
const RESULT: &str = "@@RESULT rc=";

/// Two pairs of taps, each joined by a bridge, in a network namespace of their
/// own. `tap0` and `tap1` for the device that refuses XDP in its driver, `tap2`
/// (four queues) and `tap3` for the device with a queue for each CPU.
const CABLES: &str = "set -e
for n in 0 1; do
  ip link add br$n type bridge mcast_snooping 0
  ip link set br$n up
done
ip tuntap add tap0 mode tap vnet_hdr
ip tuntap add tap1 mode tap vnet_hdr
ip tuntap add tap2 mode tap vnet_hdr multi_queue
ip tuntap add tap3 mode tap vnet_hdr
for n in 0 1 2 3; do
  ip link set tap$n master br$((n / 2)) up
done
";

/// The network cards, told apart by the last byte of their addresses: 1 and 2
/// joined, 3 and 4, 5 and 6, 7 and 8.
const CARDS: &str = "-netdev hubport,id=h1,hubid=0 -netdev hubport,id=h2,hubid=0 \
     -device virtio-net-pci,netdev=h1,romfile=,mac=52:54:00:00:00:01 \
     -device virtio-net-pci,netdev=h2,romfile=,mac=52:54:00:00:00:02 \
     -netdev tap,id=t0,ifname=tap0,script=no,downscript=no -netdev tap,id=t1,ifname=tap1,script=no,downscript=no \
     -device virtio-net-pci,netdev=t0,romfile=,mac=52:54:00:00:00:03,ctrl_guest_offloads=off \
     -device virtio-net-pci,netdev=t1,romfile=,mac=52:54:00:00:00:04 \
     -netdev tap,id=t2,ifname=tap2,queues=4,script=no,downscript=no \
     -netdev tap,id=t3,ifname=tap3,script=no,downscript=no \
     -device virtio-net-pci,netdev=t2,romfile=,mac=52:54:00:00:00:05,mq=on,vectors=10 \
     -device virtio-net-pci,netdev=t3,romfile=,mac=52:54:00:00:00:06 \
     -netdev hubport,id=h3,hubid=1 -netdev hubport,id=h4,hubid=1 \
     -device virtio-net-pci,netdev=h3,romfile=,mac=52:54:00:00:00:07 \
     -device virtio-net-pci,netdev=h4,romfile=,mac=52:54:00:00:00:08";

/// What runs the machine.
pub enum Emulator {
    /// qemu, unpacked below this directory.
    Qemu(PathBuf),
    /// The kernel is a program of this machine.
    UserMode,
}

/// qemu's program, its libraries and its firmware.
fn qemu(root: &Path) -> Result<Vec<String>> {
    let path = |below: &str| root.join(below).display().to_string();
    let mut words = Vec::new();
    match find("qemu-system-x86_64") {
        Some(installed) => words.push(installed.display().to_string()),
        None => {
            let libraries = format!("{}:{}", path("usr/lib/x86_64-linux-gnu"), path("lib/x86_64-linux-gnu"));
            words.extend(["env".into(), format!("LD_LIBRARY_PATH={libraries}"), path("usr/bin/qemu-system-x86_64")]);
            words.extend(["-L".into(), path("usr/share/qemu"), "-L".into(), path("usr/share/seabios")]);
        }
    }
    // Not every /dev/kvm boots every kernel, so it has to be asked for.
    let accelerator = match std::env::var("SG_VM_ACCEL").as_deref() {
        Ok("kvm") => "-accel kvm -cpu host",
        Err(_) | Ok("" | "tcg") => "-accel tcg,thread=multi -cpu max",
        Ok(other) => bail!("SG_VM_ACCEL={other}: it is kvm or tcg"),
    };
    let machine = "-M q35 -smp 2 -m 1024 -nodefaults -no-user-config -display none -no-reboot -serial stdio";
    words.extend([machine, accelerator, CARDS].iter().flat_map(|s| s.split_whitespace()).map(str::to_owned));
    Ok(words)
}

/// Boots, passes on what the machine says, and counts its tests.
///
/// # Errors
/// It cannot be started, it says no result, or a bad one without a failed test.
pub fn boot(emulator: &Emulator, kernel: &Path, initrd: &Path, everything: bool) -> Result<Tally> {
    let patience = PATIENCE[usize::from(everything)];
    let (kernel, initrd) = (kernel.display().to_string(), initrd.display().to_string());
    let words: Vec<String> = match emulator {
        Emulator::Qemu(root) => {
            let mut words = qemu(root)?;
            let line = "console=ttyS0 quiet loglevel=2 panic=-1".to_owned();
            words.extend(["-kernel".into(), kernel, "-initrd".into(), initrd, "-append".into(), line]);
            words
        }
        Emulator::UserMode => {
            let line = "mem=768M con0=fd:0,fd:1 con=null root=/dev/ram0 rdinit=/init quiet loglevel=2 panic=-1";
            let scratch = super::fetch::directory().join("uml/");
            let mut words = vec![kernel, format!("initrd={initrd}"), format!("uml_dir={}", scratch.display())];
            words.extend(line.split_whitespace().map(str::to_owned));
            words
        }
    };
    let mut command = as_root("timeout").context("a machine's network cards need root or sudo")?;
    // Each program becomes the next, so that ending the process ends the machine.
    let script =
        if matches!(emulator, Emulator::Qemu(_)) { format!("{CABLES}exec \"$@\"") } else { "exec \"$@\"".into() };
    command.args(["--foreground", "-k", "5", patience, "unshare", "-n", "sh", "-c", &script, "sh"]).args(&words);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(&command)))?;
    let mut counts = Tally::default();
    let mut result = None;
    for line in BufReader::new(child.stdout.take().context("no output")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        match line.split_once(RESULT) {
            Some((_, code)) => result = code.trim().parse::<i32>().ok(),
            None if line.is_empty() => {}
            None => println!("{line}"),
        }
        counts.read(line);
    }
    let status = child.wait()?;
    match result {
        None => bail!("the machine ended without a result ({status}; it may take {patience} seconds)"),
        Some(code) if code != 0 && counts.failed == 0 => bail!("the tests ended with status {code}"),
        Some(_) => Ok(counts),
    }
}
