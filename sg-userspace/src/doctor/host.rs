//! The kernel, what this process may do, the clock.

use super::{
    Check,
    facts::{Facts, Pins, Program},
};
use crate::api::auth::WINDOW;

/// The oldest kernel that the program runs on.
const OLDEST: (u32, u32) = (6, 1);
/// The first that has TCX.
const TCX: (u32, u32) = (6, 6);
/// The first second of 2026, before which none of this was built.
const BUILT: u64 = 1_767_225_600;

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    vec![
        kernel(&facts.release),
        jit(facts.jit),
        btf(facts.btf),
        bpffs(&facts.pins),
        privileges(&facts.lacking),
        program(&facts.program),
        clock(facts.clock.now),
        synchronised(facts.clock.synchronised),
    ]
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel(release: &str) -> Check {
    let check = "kernel";
    match version(release) {
        None => Check::warn(check, format!("{release:?} is no version"), "it must be 6.1 or later"),
        Some(found) if found < OLDEST => {
            Check::fail(check, format!("{release}, and 6.1 is the oldest that works"), "use a kernel of 6.1 or later")
        }
        Some(found) if found < TCX => {
            Check::ok(check, format!("{release}: without TCX (6.6), programs sit at clsact qdiscs"))
        }
        Some(_) => Check::ok(check, format!("{release}, with TCX")),
    }
}

fn jit(on: Option<bool>) -> Check {
    let check = "BPF compiler";
    match on {
        Some(true) => Check::ok(check, "on"),
        Some(false) => Check::warn(
            check,
            "off: programs are interpreted, which costs several times as much for each packet",
            "`sysctl -w net.core.bpf_jit_enable=1`, and the same in /etc/sysctl.d",
        ),
        None => Check::ok(check, "cannot be seen from this network namespace"),
    }
}

fn btf(there: bool) -> Check {
    let check = "BTF";
    if there {
        return Check::ok(check, "/sys/kernel/btf/vmlinux");
    }
    let advice = "use a kernel that is built with CONFIG_DEBUG_INFO_BTF=y, as those of the distributions are";
    Check::fail(check, "/sys/kernel/btf/vmlinux is missing", advice)
}

fn bpffs(pins: &Pins) -> Check {
    let (check, root) = ("BPF file system", pins.root.display());
    if pins.on_bpffs {
        return Check::ok(check, format!("at {root}"));
    }
    let above = pins.root.parent().unwrap_or(&pins.root).display();
    let advice = format!("`mount -t bpf bpf {above}`, or set pin_root to a directory on one");
    Check::fail(check, format!("{root} is not on one: the protection would end with the daemon"), advice)
}

fn privileges(lacking: &[&str]) -> Check {
    let check = "privileges";
    if lacking.is_empty() {
        return Check::ok(check, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
    }
    let advice =
        "`sudo sgctl doctor` looks at all; sgd itself needs them, from root or AmbientCapabilities= in its unit";
    Check::warn(check, format!("this command lacks {}", lacking.join(", ")), advice)
}

fn program(program: &Program) -> Check {
    let check = "kernel program";
    match program {
        Program::Loads => Check::ok(check, "the kernel takes it"),
        Program::Untried => Check::unseen(check, "whether the kernel takes it"),
        Program::Refused(why) => {
            Check::fail(check, why, "if nothing above fails, please report it with this output and `uname -a`")
        }
    }
}

fn clock(now: u64) -> Check {
    let check = "clock";
    let text = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(now));
    if now >= BUILT {
        return Check::ok(check, format!("{text}"));
    }
    let minutes = WINDOW / 60;
    Check::fail(
        check,
        format!("{text}, which is over: calls of the API are refused that are {minutes} minutes away from it"),
        "set it (`timedatectl set-time`, `chronyc makestep`), and keep it right by NTP",
    )
}

fn synchronised(is: Option<bool>) -> Check {
    let check = "clock kept right";
    match is {
        Some(true) => Check::ok(check, "by NTP or the like"),
        Some(false) => Check::warn(
            check,
            "nothing does: calls of the API fail once it is 15 minutes wrong",
            "run chrony or systemd-timesyncd (`timedatectl set-ntp true`); on a VM the host may do it unseen",
        ),
        None => Check::ok(check, "cannot be seen"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn kernels_are_old_or_new_enough() {
        for (release, state, says) in [
            ("5.15.0-91-generic", State::Fail, "6.1 is the oldest"),
            ("6.0.19", State::Fail, "6.1 is the oldest"),
            ("6.1.0-28-amd64", State::Ok, "without TCX"),
            ("6.6.1", State::Ok, "with TCX"),
            ("7.0-rc1", State::Ok, "with TCX"),
            ("mine", State::Warn, "no version"),
        ] {
            let check = kernel(release);
            assert_eq!(check.state, state, "{release}");
            assert!(check.found.contains(says), "{check:?}");
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_said() {
        assert_eq!([Some(true), Some(false), None].map(|on| jit(on).state), [State::Ok, State::Warn, State::Ok]);
        assert_eq!([true, false].map(|there| btf(there).state), [State::Ok, State::Fail]);
        let pins = |on_bpffs| Pins { root: "/run/bpf/sg".into(), on_bpffs };
        assert_eq!(bpffs(&pins(true)).state, State::Ok);
        let without = bpffs(&pins(false));
        assert_eq!(without.state, State::Fail);
        assert!(without.advice.contains("`mount -t bpf bpf /run/bpf`"), "{without:?}");
    }

    #[test]
    fn rights_and_the_program() {
        assert_eq!(privileges(&[]).state, State::Ok);
        let lacking = privileges(&["CAP_BPF"]);
        assert_eq!(lacking.state, State::Warn);
        assert!(lacking.found.contains("lacks CAP_BPF"), "{lacking:?}");
        assert_eq!(program(&Program::Loads).state, State::Ok);
        assert_eq!(program(&Program::Untried).state, State::Warn);
        let refused = program(&Program::Refused("cannot load it: E2BIG".into()));
        assert_eq!((refused.state, refused.found.as_str()), (State::Fail, "cannot load it: E2BIG"));
    }

    #[test]
    fn a_clock_is_right_or_wrong() {
        assert_eq!(clock(BUILT).state, State::Ok);
        let wrong = clock(86_400);
        assert_eq!(wrong.state, State::Fail);
        assert!(wrong.found.contains("1970-01-02T00:00:00Z") && wrong.found.contains("15 minutes"), "{wrong:?}");
        assert_eq!(
            [Some(true), Some(false), None].map(|is| synchronised(is).state),
            [State::Ok, State::Warn, State::Ok]
        );
    }
}
