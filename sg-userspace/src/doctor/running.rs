//! The daemon, the devices that it protects, and who else looks at their packets.

use super::{
    Check,
    facts::{Card, ConfigFile, Daemon, Facts, Others},
};
use crate::{ctl::client::ClientError, daemon::protocol::Status};

/// Devices that are named.
const NAMED: usize = 6;

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    match &facts.daemon {
        Daemon::Silent(why) => checks.push(silent(why)),
        Daemon::Runs(status) => {
            checks.push(runs(status));
            checks.extend(protection(status));
            checks.push(failsafe(status, &facts.config));
            checks.extend(foreign(status));
            checks.extend(facts.devices.iter().map(card));
        }
    }
    checks.extend(others(&facts.others));
    checks
}

fn silent(why: &ClientError) -> Check {
    let todo = match why {
        ClientError::NoRights { .. } => "ask as root, or as a member of the daemon's socket_group",
        ClientError::OtherVersion { .. } | ClientError::Unexpected { .. } => {
            "`systemctl restart sgd` after an update; no packet is lost by it"
        }
        // It runs, and does not do what it is for.
        ClientError::Silent { .. }
        | ClientError::HungUp { .. }
        | ClientError::Refused { .. }
        | ClientError::Problems { .. } => {
            let advice = "its log says why (`journalctl -u sgd`); `systemctl restart sgd` loses no packet";
            return Check::fail("daemon", why.to_string(), advice);
        }
        ClientError::Absent { .. } | ClientError::Unreachable { .. } | ClientError::Request(_) => {
            "`systemctl start sgd`, then once more"
        }
    };
    let advice = format!("{todo}; what it protects was not looked at, and what is in force stays in force");
    Check::warn("daemon", why.to_string(), advice)
}

/// `3 min`, for people.
fn for_long(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn runs(status: &Status) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    let since = status.uptime.map(|s| format!(", for {}", for_long(s))).unwrap_or_default();
    if status.version == own {
        return Check::ok("daemon", format!("sgd {own} runs{since}"));
    }
    let found = format!("sgd {} runs{since}, and this is sgctl {own}", status.version);
    Check::warn("daemon", found, "`systemctl restart sgd` after an update; no packet is lost by it")
}

/// Whether everything that is named is protected.
fn protection(status: &Status) -> Vec<Check> {
    let check = "protection";
    let mut checks: Vec<Check> = Vec::new();
    if let Some(trouble) = &status.trouble {
        let found = format!("not all is in force: {trouble}");
        checks.push(Check::fail(
            check,
            found,
            "devices without their policy deny; mend what it says, or `sgctl rollback`",
        ));
    }
    for line in &status.refused {
        checks.push(Check::fail(check, format!("not protected: {line}"), "`sgctl status` says it as long as it is so"));
    }
    if checks.is_empty() {
        let names: Vec<&str> = status.devices.iter().map(|d| d.device.as_str()).take(NAMED).collect();
        let more = if status.devices.len() > NAMED { ", …" } else { "" };
        let found = format!("in force on {}{more}", names.join(", "));
        checks.push(if status.devices.is_empty() {
            Check::warn(check, "no device is protected", "`sgctl apply -f FILE` protects those that FILE names")
        } else {
            Check::ok(check, found)
        });
    }
    if !status.absent.is_empty() {
        checks.push(Check::ok(check, format!("named but not here: {}", status.absent.join(", "))));
    }
    checks
}

fn failsafe(status: &Status, file: &ConfigFile) -> Check {
    let check = "failsafe";
    let running = status.failsafe.as_ref().map(|f| f.services.clone());
    if file.there && !file.hidden && file.error.is_none() && running != file.failsafe {
        let say = |f: &Option<String>| f.clone().unwrap_or_else(|| "none".into());
        let found = format!("{} is in force, and the file says {}", say(&running), say(&file.failsafe));
        return Check::warn(check, found, "`systemctl restart sgd`");
    }
    match &status.failsafe {
        Some(f) if f.devices.is_empty() && status.devices.is_empty() => {
            Check::ok(check, format!("on {}, none of which is protected yet", f.place))
        }
        Some(f) if f.devices.is_empty() => {
            Check::warn(check, format!("on {}, which no protected device is", f.place), "failsafe.devices in sgd.toml")
        }
        Some(f) => Check::ok(check, format!("{} on {}", f.services, f.devices.join(", "))),
        None => Check::ok(check, "none: rules can close this host to its administrator; [failsafe] in sgd.toml"),
    }
}

/// Programs of others that packets come to before ours.
fn foreign(status: &Status) -> Vec<Check> {
    let check = "other programs";
    let advice = "take it off, or give it a place behind ours, if what it accepts is to be judged";
    if status.before.is_empty() && !status.devices.is_empty() {
        return vec![Check::ok(check, "none before ours")];
    }
    status.before.iter().map(|line| Check::warn(check, line, advice)).collect()
}

/// What a card does to packets that its program does not expect.
fn card(card: &Card) -> Check {
    let (check, name) = (format!("offloads: {}", card.name), &card.name);
    let driver = if card.driver.is_empty() { "no driver of its own".to_owned() } else { card.driver.clone() };
    match (card.hook.as_str(), card.lro) {
        ("xdp" | "xdp (generic)", Some(true)) => Check::fail(
            &check,
            format!(
                "{driver} merges received packets (LRO) before XDP sees them: it judges what never was on the wire"
            ),
            format!("`ethtool -K {name} lro off`, or `hook: tc` in the document"),
        ),
        ("xdp (generic)", _) => Check::warn(
            &check,
            format!("{driver} has no XDP of its own: the kernel copies each packet for it"),
            "`hook: tc` in the document costs less there",
        ),
        (hook, Some(true)) => Check::ok(&check, format!("{driver}, {hook}; LRO is on, which {hook} can take")),
        (hook, _) => Check::ok(&check, format!("{driver}, {hook}")),
    }
}

/// Who judges packets beside us: to be known, since both have to accept.
fn others(others: &Others) -> Vec<Check> {
    let mut checks = Vec::new();
    if !others.filters.is_empty() {
        let found = format!("{}: what they drop is dropped, whatever our rules say", others.filters.join(", "));
        checks.push(Check::ok("other filters", found));
    }
    if let Some((used, most)) = others.conntrack {
        checks.push(Check::ok("nf_conntrack", format!("{used} of {most} entries; ours are apart from them")));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};
    use crate::daemon::protocol::{Conntrack, DeviceStatus, FailsafeView};

    fn config(failsafe: Option<&str>) -> ConfigFile {
        ConfigFile {
            path: "/etc/sg/sgd.toml".into(),
            there: true,
            hidden: false,
            error: None,
            warnings: Vec::new(),
            failsafe: failsafe.map(Into::into),
        }
    }

    fn status() -> Status {
        let device = DeviceStatus {
            device: "eth0".into(),
            index: 2,
            side: "host".into(),
            hooks: vec!["xdp".into(), "tcx".into()],
            groups: Vec::new(),
            addresses: Vec::new(),
            epoch: 1,
            accepted: 0,
            dropped: 0,
            observing: None,
            attached: Vec::new(),
            last_packet: None,
            seen: Vec::new(),
            observed: None,
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime: Some(300),
            generation: 1,
            documents: Vec::new(),
            drift: Vec::new(),
            devices: vec![device],
            absent: Vec::new(),
            refused: Vec::new(),
            trouble: None,
            trial: None,
            failsafe: None,
            before: Vec::new(),
            flows: (0, 0),
            conntrack: Conntrack::default(),
            room: Vec::new(),
        }
    }

    fn states(checks: &[Check]) -> Vec<State> {
        checks.iter().map(|c| c.state).collect()
    }

    #[test]
    fn a_daemon_runs_or_not() {
        let check = runs(&status());
        assert!(check.state == State::Ok && check.found.ends_with("runs, for 5 min"), "{check:?}");
        let other = runs(&Status { version: "0.0.1".into(), ..status() });
        assert!(other.state == State::Warn && other.advice.contains("restart sgd"), "{other:?}");
        let socket = || std::path::PathBuf::from("/run/sg/sgd.sock");
        let absent = silent(&ClientError::Absent { socket: socket() });
        assert!(absent.state == State::Warn && absent.advice.contains("systemctl start sgd"), "{absent:?}");
        let rights = silent(&ClientError::NoRights { socket: socket() });
        assert!(rights.state == State::Warn && rights.advice.starts_with("ask as root"), "{rights:?}");
        // What it says in its own words is not taken for anything else.
        let refused = silent(&ClientError::Refused { message: "not allowed: another version".into() });
        assert!(refused.state == State::Fail && refused.advice.contains("journalctl"), "{refused:?}");
        let old = silent(&ClientError::OtherVersion { socket: socket(), what: "x".into() });
        assert!(old.state == State::Warn && old.advice.contains("after an update"), "{old:?}");
        assert_eq!(silent(&ClientError::Silent { socket: socket() }).state, State::Fail);
        assert_eq!([0, 119, 120, 7200, 172_800].map(for_long), ["0 s", "119 s", "2 min", "2 h", "2 days"]);
    }

    #[test]
    fn what_is_not_protected_fails() {
        assert_eq!(states(&protection(&status())), [State::Ok]);
        let trouble = Status { trouble: Some("too large".into()), ..status() };
        assert_eq!(states(&protection(&trouble)), [State::Fail]);
        let refused = Status { refused: vec!["eth1: a port of br0".into()], absent: vec!["eth9".into()], ..status() };
        assert_eq!(states(&protection(&refused)), [State::Fail, State::Ok]);
        assert_eq!(states(&protection(&Status { devices: Vec::new(), ..status() })), [State::Warn]);
    }

    #[test]
    fn a_failsafe_covers_somebody_or_nobody() {
        assert!(failsafe(&status(), &config(None)).found.starts_with("none"));
        let view = |devices: &[&str]| FailsafeView {
            services: "tcp 22".into(),
            sources: Vec::new(),
            place: "eth1".into(),
            devices: devices.iter().map(ToString::to_string).collect(),
        };
        let with =
            |devices: &[&str]| failsafe(&Status { failsafe: Some(view(devices)), ..status() }, &config(Some("tcp 22")));
        assert_eq!((with(&["eth1"]).state, with(&[]).state), (State::Ok, State::Warn));
    }

    #[test]
    fn programs_of_others_are_told() {
        assert_eq!(states(&foreign(&status())), [State::Ok]);
        let before = Status { before: vec!["eth0: an XDP program of somebody else".into()], ..status() };
        assert_eq!(states(&foreign(&before)), [State::Warn]);
        assert_eq!(foreign(&Status { devices: Vec::new(), ..status() }), []);
    }

    #[test]
    fn what_a_card_merges_matters_to_xdp_alone() {
        let at = |hook: &str, lro| card(&Card { name: "eth0".into(), hook: hook.into(), driver: "ixgbe".into(), lro });
        assert_eq!(at("xdp", Some(false)).state, State::Ok);
        assert_eq!(at("xdp", None).state, State::Ok);
        let merges = at("xdp", Some(true));
        assert!(merges.state == State::Fail && merges.advice.contains("`ethtool -K eth0 lro off`"), "{merges:?}");
        assert_eq!(at("xdp (generic)", Some(true)).state, State::Fail);
        assert_eq!(at("xdp (generic)", Some(false)).state, State::Warn);
        assert_eq!(at("tcx", Some(true)).state, State::Ok);
    }

    #[test]
    fn other_filters_are_only_told() {
        assert_eq!(others(&Others::default()), []);
        let both = others(&Others { filters: vec!["nf_tables"], conntrack: Some((9, 10)) });
        assert_eq!(states(&both), [State::Ok, State::Ok]);
        assert!(both[1].found.starts_with("9 of 10 entries"), "{both:?}");
    }
}
