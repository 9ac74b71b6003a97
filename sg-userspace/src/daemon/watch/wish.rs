//! What one watcher wants: said by names, asked of the kernel by numbers, and looked
//! at once more here, as the kernel is asked for what all watchers want together.

use sg_common::{
    addr::Addr,
    event::Event,
    limits::MAX_SLOTS,
    reason::{Reason, Verdict},
    watch::{ANY_PROTOCOL, Tell, stream},
};
use sg_ebpf::{classify::Query, tell::wanted, verdict::Decision};

use super::names::Names;
use crate::{daemon::protocol::Watch, model::device_matches};

/// Windows a second: a burst may use what a tenth of a second has.
pub const WINDOWS: u32 = 10;
/// The most events a second that a CPU tells.
pub const MAX_RATE: u32 = 100_000;
/// Rule number that none has: what is asked for decides nothing now.
const NO_RULE: u32 = u32::MAX;

/// Reasons whose packets are told apart by nobody: the short way takes them.
const COMMON: [Reason; 1] = [Reason::Established];

/// Reasons of accepted packets that are shown unless others are asked for: a flow begins.
const BEGINS: [Reason; 6] =
    [Reason::Rule, Reason::Default, Reason::IntraGroup, Reason::Provider, Reason::Failsafe, Reason::Observed];

/// A [`Watch`] in numbers of the moment: what the kernel would be asked for it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish(Tell);

fn reason_bits(watch: &Watch) -> Result<[u64; 2], String> {
    let bit = |reason: Reason| 1u64 << (reason as u8);
    let mut bits = if watch.reasons.is_empty() {
        [!0, BEGINS.into_iter().map(bit).fold(0, |a, b| a | b)]
    } else {
        let mut named = 0;
        for text in &watch.reasons {
            let found = Reason::ALL.iter().copied().find(|r| r.name().eq_ignore_ascii_case(text));
            let reason =
                found.ok_or_else(|| format!("there is no reason {text:?}; `sgctl explain --reasons` lists them"))?;
            if COMMON.contains(&reason) {
                return Err(format!(
                    "packets of flows that were let in ({text}) are not told one by one; `sgctl flows` lists the flows"
                ));
            }
            named |= bit(reason);
        }
        [named, named]
    };
    match watch.verdict.as_deref() {
        None => {}
        Some("accept") => bits[Verdict::Drop as usize] = 0,
        Some("drop") => bits[Verdict::Accept as usize] = 0,
        Some(other) => return Err(format!("{other:?} is no verdict: accept or drop")),
    }
    Ok(bits)
}

fn slots(watch: &Watch, names: &Names) -> Result<[u64; MAX_SLOTS as usize / 64], String> {
    if watch.devices.is_empty() && watch.groups.is_empty() {
        return Ok([!0; MAX_SLOTS as usize / 64]);
    }
    let mut bits = [0; MAX_SLOTS as usize / 64];
    for (slot, name) in &names.slots {
        let device = watch.devices.is_empty() || watch.devices.iter().any(|d| device_matches(d, &name.device));
        let group = watch.groups.is_empty() || watch.groups.iter().any(|g| name.groups.contains(g));
        if device && group && *slot < MAX_SLOTS {
            bits[*slot as usize / 64] |= 1 << (slot % 64);
        }
    }
    Ok(bits)
}

/// Address and mask, as the program compares them.
fn network(watch: &Watch) -> ([u64; 2], [u64; 2]) {
    let Some(net) = watch.address else { return ([0; 2], [0; 2]) };
    let mut bits = u32::from(net.prefix_len());
    if net.addr().is_ipv4() {
        bits += 96;
    }
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    let mask = Addr(mask.to_be_bytes()).words();
    let words = Addr::from(net.network()).words();
    ([words[0] & mask[0], words[1] & mask[1]], mask)
}

impl Wish {
    /// In numbers.
    ///
    /// # Errors
    /// What there is not, for a human. A name that a later change takes away matches nothing.
    pub fn of(watch: &Watch, names: &mut Names, begins: bool) -> Result<Self, String> {
        let reasons = reason_bits(watch)?;
        if !(1..=MAX_RATE).contains(&watch.rate) {
            return Err(format!("a rate is from 1 to {MAX_RATE} events a second, not {}", watch.rate));
        }
        let slots = slots(watch, names)?;
        if begins && slots.iter().all(|bits| *bits == 0) {
            let what = [watch.devices.as_slice(), &watch.groups].concat().join(", ");
            return Err(format!("no protected device is meant by {what}; `sgctl status` lists what is protected"));
        }
        let rule = match &watch.rule {
            None => 0,
            Some(text) => {
                let found = names.rules().iter().find(|(_, r)| r.name == *text).map(|(id, _)| *id);
                if begins && found.is_none() {
                    return Err(format!(
                        "no rule in force is called {text:?}; `sgctl interface show DEVICE --rules` lists them"
                    ));
                }
                found.unwrap_or(NO_RULE)
            }
        };
        let (network, mask) = network(watch);
        let (first, last) = watch.ports.unwrap_or((0, u16::MAX));
        if first > last {
            return Err(format!("{first}-{last} is no range of ports"));
        }
        let mut tell = Tell {
            slots,
            network,
            mask,
            ports: [first, last],
            protocol: watch.protocol.map_or(ANY_PROTOCOL, u32::from),
            rule,
            every: watch.every.max(1),
            ..Tell::NOTHING
        };
        tell.reasons[stream::WATCH] = reasons;
        tell.tokens[stream::WATCH] = watch.rate.div_ceil(WINDOWS);
        Ok(Self(tell))
    }

    /// One of so many.
    pub fn every(&self) -> u32 {
        self.0.every
    }

    /// Events of a CPU in a window.
    pub fn tokens(&self) -> u32 {
        self.0.tokens[stream::WATCH]
    }

    /// Whether an event is one of those it wants: as the kernel itself asks.
    pub fn wants(&self, e: &Event) -> bool {
        let query = Query {
            local: e.local,
            remote: e.remote,
            source_port: e.local_port,
            destination_port: e.remote_port,
            protocol: (e.vlan_proto & 0xff) as u8,
            direction: e.direction,
            v4: 0,
            pad: 0,
        };
        let decision = Decision { verdict: Verdict::from_u8(e.verdict), reason: e.reason, rule: e.rule };
        wanted(&self.0, &query, e.slot, &decision) != 0
    }
}

/// Asks for what all of them want: each field as narrow as they agree.
pub fn ask(wishes: &[Wish], hz: u32, tell: &mut Tell) {
    const WATCH: usize = stream::WATCH;
    let fresh = Tell::NOTHING;
    let Some((Wish(first), others)) = wishes.split_first() else {
        tell.tokens[WATCH] = 0;
        return;
    };
    let mut all = *first;
    for Wish(w) in others {
        all.slots.iter_mut().zip(w.slots).for_each(|(a, b)| *a |= b);
        all.reasons[WATCH].iter_mut().zip(w.reasons[WATCH]).for_each(|(a, b)| *a |= b);
        if (all.network, all.mask) != (w.network, w.mask) {
            (all.network, all.mask) = (fresh.network, fresh.mask);
        }
        all.ports = [all.ports[0].min(w.ports[0]), all.ports[1].max(w.ports[1])];
        if all.protocol != w.protocol {
            all.protocol = ANY_PROTOCOL;
        }
        if all.rule != w.rule {
            all.rule = 0;
        }
        all.every = all.every.min(w.every);
        all.tokens[WATCH] = all.tokens[WATCH].max(w.tokens[WATCH]);
    }
    // What other streams ask stays.
    let (mut reasons, mut tokens) = (tell.reasons, tell.tokens);
    (reasons[WATCH], tokens[WATCH]) = (all.reasons[WATCH], all.tokens[WATCH]);
    *tell = Tell { reasons, tokens, window: (hz / WINDOWS).max(1), version: tell.version, ..all };
}

#[cfg(test)]
mod tests {
    use super::{super::names::SlotName, *};

    fn names() -> Names {
        let mut names = Names::default();
        for (slot, device, group) in [(1, "eth0", "web"), (65, "tap7", "db")] {
            names.slots.insert(slot, SlotName { device: device.into(), groups: vec![group.into()] });
        }
        names
    }

    fn wish(watch: &Watch) -> Result<Wish, String> {
        Wish::of(watch, &mut names(), true)
    }

    fn event() -> Event {
        Event { slot: 65, rule: 3, ..super::super::tests::event(0) }
    }

    #[test]
    fn names_become_numbers_and_what_is_not_there_is_said() {
        let base = Watch::default();
        assert!(wish(&base).unwrap().wants(&event()));
        let by = |watch: Watch| wish(&watch).unwrap().wants(&event());
        assert!(by(Watch { devices: vec!["tap*".into()], ..base.clone() }));
        assert!(!by(Watch { devices: vec!["eth0".into()], ..base.clone() }));
        assert!(by(Watch { groups: vec!["db".into()], ..base.clone() }));
        assert!(!by(Watch { groups: vec!["web".into()], ..base.clone() }));
        assert!(by(Watch { address: Some("192.0.2.0/24".parse().unwrap()), ..base.clone() }));
        assert!(by(Watch { address: Some("10.0.0.5/32".parse().unwrap()), ..base.clone() }));
        assert!(by(Watch { address: Some("0.0.0.0/0".parse().unwrap()), ..base.clone() }));
        assert!(!by(Watch { address: Some("192.0.3.0/24".parse().unwrap()), ..base.clone() }));
        assert!(!by(Watch { address: Some("2001:db8::/32".parse().unwrap()), ..base.clone() }));
        assert!(by(Watch { ports: Some((20, 25)), ..base.clone() }));
        assert!(!by(Watch { ports: Some((80, 90)), ..base.clone() }));
        assert!(!by(Watch { protocol: Some(17), ..base.clone() }));
        assert!(!by(Watch { verdict: Some("accept".into()), ..base.clone() }));
        assert!(by(Watch { reasons: vec!["default".into()], ..base.clone() }));
        assert!(!by(Watch { reasons: vec!["cut".into()], ..base.clone() }));
        let refused = |watch: Watch| wish(&watch).unwrap_err();
        assert!(refused(Watch { devices: vec!["eth9".into()], ..base.clone() }).contains("no protected device"));
        assert!(refused(Watch { reasons: vec!["bad".into()], ..base.clone() }).contains("no reason"));
        assert!(refused(Watch { reasons: vec!["established".into()], ..base.clone() }).contains("sgctl flows"));
        assert!(refused(Watch { rule: Some("web[9]".into()), ..base.clone() }).contains("no rule in force"));
        assert!(refused(Watch { rate: 0, ..base.clone() }).contains("from 1 to"));
        assert!(refused(Watch { ports: Some((9, 8)), ..base }).contains("no range"));
    }

    #[test]
    fn the_kernel_is_asked_for_what_any_of_them_wants() {
        let net = |text: &str| Some(text.parse().unwrap());
        let a = Watch { devices: vec!["eth0".into()], ports: Some((22, 22)), every: 4, rate: 10, ..Watch::default() };
        let b = Watch { devices: vec!["tap7".into()], ports: Some((80, 90)), every: 2, rate: 25, ..Watch::default() };
        let mut tell = Tell::NOTHING;
        ask(&[wish(&a).unwrap(), wish(&b).unwrap()], 250, &mut tell);
        assert_eq!((tell.slots[0], tell.slots[1]), (1 << 1, 1 << 1));
        assert_eq!((tell.ports, tell.every, tell.tokens[0], tell.window), ([22, 90], 2, 3, 25));
        let one = Watch { address: net("10.0.0.0/8"), protocol: Some(6), ..Watch::default() };
        let two = Watch { address: net("10.0.0.0/9"), protocol: Some(6), ..Watch::default() };
        ask(&[wish(&one).unwrap(), wish(&one).unwrap()], 250, &mut tell);
        assert_ne!(tell.mask, [0; 2]);
        ask(&[wish(&one).unwrap(), wish(&two).unwrap()], 250, &mut tell);
        assert_eq!((tell.mask, tell.protocol), ([0; 2], 6));
        ask(&[], 250, &mut tell);
        assert_eq!(tell.tokens[stream::WATCH], 0);
    }
}
