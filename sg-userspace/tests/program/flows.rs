//! Flows over several packets, over time, and over changes of policy.

use sg_common::{
    generation::{NO_POLICY, flags, on_change},
    reason::{Reason, Verdict},
};
use sg_userspace::{
    dataplane::probe::{Entry, Probe, generation_of},
    model::Model,
};

use crate::support::{self, frames::*, kernel::probe};

use Reason::*;
use Verdict::{Accept, Drop};

pub const POLICY: &str = "
security_groups:
- security_group_name: g
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 80/80, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: udp, port_range: 53/53, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: icmp, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: gre, source_cidr_ip: 0.0.0.0/0}
  - {direction: ingress, ip_protocol: icmpv6, ipv6_source_cidr_ip: '::/0'}
network_interfaces:
- {device: host0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}
";
/// The same without any rule.
pub const CLOSED: &str = "
security_groups: [{security_group_name: g}]
network_interfaces: [{device: host0, private_ip_addresses: [10.0.0.5], security_group_ids: [g]}]
";

/// One interface under test: packets in and out of it.
pub struct Bench {
    pub probe: Probe,
    model: Model,
    epoch: u32,
    jiffies: u32,
}

impl Bench {
    pub fn new() -> Option<Self> {
        Self::of(POLICY)
    }
    pub fn of(policy: &str) -> Option<Self> {
        let model = support::model(policy);
        let mut probe = probe()?;
        probe.prepare(&model, &model.declared_instances(), 0).unwrap();
        Some(Self { probe, model, epoch: 1, jiffies: 0 })
    }
    /// Begins anew under another policy, in another zone.
    pub fn begin(&mut self, policy: &str) {
        self.model = support::model(policy);
        self.probe.prepare(&self.model, &self.model.declared_instances(), 0).unwrap();
        self.epoch = 1;
    }

    fn run(&mut self, entry: Entry, frame: &[u8]) -> (Verdict, Reason) {
        let (verdict, event) = self.probe.run(entry, frame).unwrap();
        (verdict, Reason::from_u8(event.reason).unwrap())
    }
    #[track_caller]
    pub fn inbound(&mut self, frame: &[u8], verdict: Verdict, reason: Reason) {
        assert_eq!(self.run(Entry::TcIn, frame), (verdict, reason));
    }
    #[track_caller]
    pub fn outbound(&mut self, frame: &[u8], verdict: Verdict, reason: Reason) {
        assert_eq!(self.run(Entry::TcOut, frame), (verdict, reason));
    }
    /// Lets seconds pass.
    pub fn wait(&mut self, seconds: u32) {
        self.jiffies += seconds * self.probe.ticks_per_second();
        self.probe.clock(self.jiffies).unwrap();
    }
    /// Puts another policy in force, in the same zone, under the next epoch.
    pub fn change(&mut self, text: &str, mode: u8) {
        self.change_with(text, mode, 0);
    }
    fn change_with(&mut self, text: &str, mode: u8, set: u32) {
        let zone = self.probe.zone();
        self.epoch += 1;
        self.model = support::model(text);
        let instances = self.model.declared_instances();
        let key = sg_userspace::effective::PolicyKey::of(&self.model, &instances[0]);
        let tables = sg_userspace::compiler::compile(&self.model, &instances, &key, |_| 1).unwrap();
        self.probe.install(self.epoch, &tables).unwrap();
        let mut generation = generation_of(&self.model, &instances[0], zone);
        generation.policy = self.epoch;
        generation.policy_class = tables.size_class() as u32;
        generation.epoch = self.epoch;
        generation.on_change = mode;
        generation.flags |= set;
        generation.observe_until = self.in_ten_seconds();
        generation.drain_until = generation.observe_until;
        self.probe.enforce(&generation).unwrap();
    }
    fn in_ten_seconds(&mut self) -> u32 {
        let now = self.probe.now().unwrap().wrapping_add(self.jiffies);
        now.wrapping_add(10 * self.probe.ticks_per_second())
    }
    fn flags(&mut self, set: u32, policy: Option<u32>) {
        let instances = self.model.declared_instances();
        let mut generation = generation_of(&self.model, &instances[0], self.probe.zone());
        generation.flags |= set;
        generation.observe_until = self.in_ten_seconds();
        generation.policy = policy.unwrap_or(generation.policy);
        self.probe.enforce(&generation).unwrap();
    }
}

fn from_remote(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4(R4, L4, protocol).frame(payload)
}
fn from_local(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4(L4, R4, protocol).frame(payload)
}
fn to_server(flags: u8) -> Vec<u8> {
    from_remote(6, &tcp(40000, 80, flags))
}
fn from_server(flags: u8) -> Vec<u8> {
    from_local(6, &tcp(80, 40000, flags))
}

fn handshake(b: &mut Bench) {
    b.inbound(&to_server(SYN), Accept, Rule);
    b.outbound(&from_server(SYN | ACK), Accept, Established);
    b.inbound(&to_server(ACK), Accept, Established);
}

#[test]
fn tcp_lives_and_dies() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.wait(900);
    b.outbound(&from_server(ACK), Accept, Established);
    b.wait(900);
    b.inbound(&to_server(ACK), Accept, Established);
    b.inbound(&to_server(FIN | ACK), Accept, Established);
    b.outbound(&from_server(FIN | ACK), Accept, Established);
    b.inbound(&to_server(ACK), Accept, Established);
    b.wait(5);
    b.inbound(&to_server(ACK), Accept, Rule);
}

#[test]
fn an_established_flow_expires() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.wait(912);
    b.inbound(&to_server(ACK), Accept, Rule);
}

#[test]
fn a_half_open_flow_expires_soon() {
    let Some(mut b) = Bench::new() else { return };
    b.inbound(&to_server(SYN), Accept, Rule);
    b.wait(8);
    b.inbound(&to_server(SYN), Accept, Established);
    b.wait(12);
    b.inbound(&to_server(SYN), Accept, Rule);
}

#[test]
fn a_reset_closes_and_a_syn_opens_again() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.inbound(&to_server(RST), Accept, Established);
    b.inbound(&to_server(SYN), Accept, Rule);
    b.outbound(&from_server(SYN | ACK), Accept, Established);
}

#[test]
fn a_syn_against_the_origin_is_new() {
    let Some(mut b) = Bench::new() else { return };
    b.outbound(&from_local(6, &tcp(5000, 6000, SYN)), Accept, Default);
    b.inbound(&from_remote(6, &tcp(6000, 5000, SYN | ACK)), Accept, Established);
    b.inbound(&from_remote(6, &tcp(6000, 5000, SYN)), Drop, Default);
    b.inbound(&from_remote(6, &tcp(6000, 5000, ACK)), Accept, Established);
}

#[test]
fn udp_ping_and_gre_have_replies() {
    let Some(mut b) = Bench::new() else { return };
    b.inbound(&from_remote(17, &udp(5000, 53, &[])), Accept, Rule);
    b.outbound(&from_local(17, &udp(53, 5000, &[])), Accept, Established);
    b.outbound(&from_local(17, &udp(6000, 123, &[])), Accept, Default);
    b.inbound(&from_remote(17, &udp(123, 6000, &[])), Accept, Established);
    b.wait(32);
    b.inbound(&from_remote(17, &udp(123, 6000, &[])), Drop, Default);
    b.inbound(&from_remote(1, &icmp(8, 0, &[])), Accept, Rule);
    b.outbound(&from_local(1, &icmp(0, 0, &[])), Accept, Established);
    b.inbound(&from_remote(47, &[0, 0, 8, 0]), Accept, Rule);
    b.outbound(&from_local(47, &[0, 0, 8, 0]), Accept, Established);
}

#[test]
fn errors_about_a_flow_pass_and_change_nothing() {
    let Some(mut b) = Bench::new() else { return };
    b.change(CLOSED, on_change::CUT);
    let syn = tcp(5000, 6000, SYN);
    let router = [198, 51, 100, 1];
    let error = |kind, quoted: &[u8]| v4(router, L4, 1).frame(&icmp(kind, 4, quoted));
    let quoted = v4(L4, R4, 6).bytes(&syn);
    b.inbound(&error(3, &quoted), Drop, Default);
    b.outbound(&from_local(6, &syn), Accept, Default);
    b.inbound(&error(3, &quoted), Accept, Related);
    b.inbound(&error(11, &quoted), Accept, Related);
    b.inbound(&error(3, &quoted[..28]), Accept, Related);
    b.inbound(&error(5, &quoted), Drop, Default);
    b.inbound(&error(3, &v4(L4, R4, 6).bytes(&tcp(5001, 6000, SYN))), Drop, Default);
    b.inbound(&error(3, &v4(R4, L4, 6).bytes(&tcp(6000, 5000, SYN))), Drop, Default);
    b.inbound(&error(3, &quoted[..20]), Drop, Default);
    b.wait(8);
    b.inbound(&error(3, &quoted), Accept, Related);
    b.wait(4);
    b.inbound(&error(3, &quoted), Drop, Default);
}

#[test]
fn a_change_cuts_and_it_stays_cut() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.change(CLOSED, on_change::CUT);
    // The server's next segment would open the flow anew if its entry were gone.
    b.outbound(&from_server(ACK), Drop, Cut);
    b.inbound(&to_server(ACK), Drop, Cut);
    b.wait(500);
    b.outbound(&from_server(ACK), Drop, Cut);
    b.wait(500);
    b.outbound(&from_server(ACK), Drop, Cut);
    b.inbound(&to_server(SYN), Drop, Default);
    b.change(POLICY, on_change::CUT);
    b.inbound(&to_server(SYN), Accept, Rule);
    b.outbound(&from_server(SYN | ACK), Accept, Established);
}

#[test]
fn a_change_that_keeps_lets_flows_live() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.change(CLOSED, on_change::KEEP);
    b.inbound(&to_server(ACK), Accept, Established);
    b.outbound(&from_server(ACK), Accept, Established);
    b.inbound(&from_remote(6, &tcp(40001, 80, SYN)), Drop, Default);
}

#[test]
fn a_change_that_drains_lets_flows_live_for_its_time() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.change(CLOSED, on_change::DRAIN);
    b.inbound(&to_server(ACK), Accept, Established);
    b.inbound(&from_remote(6, &tcp(40001, 80, SYN)), Drop, Default);
    b.wait(9);
    b.outbound(&from_server(ACK), Accept, Established);
    b.wait(2);
    b.outbound(&from_server(ACK), Drop, Cut);
    b.inbound(&to_server(ACK), Drop, Cut);
}

#[test]
fn a_change_without_effect_cuts_nothing() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.change(&POLICY.replace("53/53", "54/54"), on_change::CUT);
    b.outbound(&from_server(ACK), Accept, Established);
    b.inbound(&to_server(ACK), Accept, Established);
}

#[test]
fn a_vlan_is_another_flow() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    let tagged = |id| eth(0x8100, &tag(id, 0x0800, &v4(L4, R4, 6).bytes(&tcp(80, 40000, ACK))));
    b.outbound(&from_server(ACK), Accept, Established);
    b.outbound(&tagged(5), Accept, Default);
    b.outbound(&tagged(5), Accept, Established);
    b.outbound(&tagged(6), Accept, Default);
}

#[test]
fn without_a_policy_only_essentials_pass() {
    let Some(mut b) = Bench::new() else { return };
    b.flags(0, Some(NO_POLICY));
    b.inbound(&to_server(SYN), Drop, NoPolicy);
    b.outbound(&from_local(6, &tcp(5000, 6000, SYN)), Drop, NoPolicy);
    b.inbound(&eth(0x0806, &arp(R4, L4)), Accept, Essential);
    b.flags(0, Some(700));
    b.inbound(&to_server(SYN), Drop, TableMissing);
}

#[test]
fn an_observing_interface_passes_and_says_so() {
    let Some(mut b) = Bench::new() else { return };
    b.flags(flags::OBSERVE, None);
    b.inbound(&from_remote(6, &tcp(1, 81, SYN)), Accept, Observed);
    b.inbound(&to_server(SYN), Accept, Rule);
    // Nobody ends it: then the program does.
    b.wait(11);
    b.inbound(&from_remote(6, &tcp(1, 81, ACK)), Drop, Cut);
    b.inbound(&from_remote(6, &tcp(2, 81, SYN)), Drop, Default);
    b.inbound(&to_server(SYN), Accept, Rule);
    // For good: the clock goes round, and that time lies ahead once more.
    let half = (1 << 31) / b.probe.ticks_per_second();
    b.wait(half);
    b.inbound(&from_remote(6, &tcp(3, 81, SYN)), Drop, Default);
}

/// As [`POLICY`], and nothing goes out unasked.
fn enterprise() -> String {
    POLICY.replace("security_group_name: g\n", "security_group_name: g\n  security_group_type: enterprise\n")
}

#[test]
fn a_connection_observed_from_its_wrong_end_is_admitted_from_the_other() {
    let Some(mut b) = Bench::new() else { return };
    b.change_with(&enterprise(), on_change::CUT, flags::OBSERVE);
    // What the server says first is outbound, and denied; then its client shows up.
    b.outbound(&from_server(ACK), Accept, Observed);
    b.outbound(&from_server(ACK), Accept, Observed);
    b.inbound(&to_server(ACK), Accept, Established);
    // The same of datagrams; and of one whose client has not shown up.
    b.outbound(&from_local(17, &udp(53, 5000, &[])), Accept, Observed);
    b.inbound(&from_remote(17, &udp(5000, 53, &[])), Accept, Established);
    b.outbound(&from_local(6, &tcp(80, 40001, ACK)), Accept, Observed);
    b.change(&enterprise(), on_change::CUT);
    b.outbound(&from_server(ACK), Accept, Established);
    b.inbound(&to_server(ACK), Accept, Established);
    b.outbound(&from_local(17, &udp(53, 5000, &[])), Accept, Established);
    b.outbound(&from_local(6, &tcp(80, 40001, ACK)), Drop, Cut);
    b.inbound(&from_remote(6, &tcp(40001, 80, ACK)), Drop, Cut);
}

#[test]
fn what_would_be_denied_passes_while_observed_and_is_cut_then() {
    let Some(mut b) = Bench::new() else { return };
    b.flags(flags::OBSERVE, None);
    let (to, from) = (|f| from_remote(6, &tcp(40000, 81, f)), |f| from_local(6, &tcp(81, 40000, f)));
    // Who began is seen: that outbound would be free does not matter.
    b.inbound(&to(SYN), Accept, Observed);
    b.outbound(&from(SYN | ACK), Accept, Observed);
    b.inbound(&to(ACK), Accept, Observed);
    b.outbound(&from(ACK), Accept, Observed);
    b.inbound(&from_remote(1, &icmp(8, 0, &[])), Accept, Rule);
    b.flags(0, None);
    b.inbound(&to(ACK), Drop, Cut);
    b.outbound(&from(ACK), Drop, Cut);
    b.inbound(&to(SYN), Drop, Default);
}

#[test]
fn an_answer_to_a_syn_from_before_is_observed_as_outbound() {
    let Some(mut b) = Bench::new() else { return };
    let (back, out) = (|f| from_remote(6, &tcp(443, 5000, f)), |f| from_local(6, &tcp(5000, 443, f)));
    b.flags(flags::OBSERVE, None);
    b.inbound(&back(SYN | ACK), Accept, Default);
    b.flags(0, None);
    b.outbound(&out(ACK), Accept, Established);
    b.inbound(&back(ACK), Accept, Established);
}

#[test]
fn a_change_while_observing_is_observed() {
    let Some(mut b) = Bench::new() else { return };
    b.change_with(&enterprise().replace("80/80", "82/82"), on_change::CUT, flags::OBSERVE);
    b.outbound(&from_server(ACK), Accept, Observed);
    b.inbound(&to_server(ACK), Accept, Observed);
    b.change_with(&enterprise(), on_change::CUT, flags::OBSERVE);
    b.outbound(&from_server(ACK), Accept, Observed);
    b.inbound(&to_server(ACK), Accept, Established);
    b.change(&enterprise(), on_change::CUT);
    b.outbound(&from_server(ACK), Accept, Established);
}

#[test]
fn a_forgotten_fragment_is_unseen() {
    let Some(mut b) = Bench::new() else { return };
    let mut first = v4(R4, L4, 17);
    first.fragment = 0x2000;
    let mut later = v4(R4, L4, 17);
    later.fragment = 3;
    let mut datagram = udp(1, 53, &[7; 16]);
    datagram[4..6].copy_from_slice(&48_u16.to_be_bytes());
    b.inbound(&first.frame(&datagram), Accept, Rule);
    b.inbound(&later.frame(&[1; 24]), Accept, Fragment);
    b.wait(32);
    b.inbound(&later.frame(&[1; 24]), Drop, FragmentUnseen);
}

#[test]
fn an_expired_flow_does_not_shadow_its_successor() {
    let Some(mut b) = Bench::new() else { return };
    let out = |flags| from_local(6, &tcp(5000, 6000, flags));
    let back = |flags| from_remote(6, &tcp(6000, 5000, flags));
    b.outbound(&out(SYN), Accept, Default);
    b.inbound(&back(SYN | ACK), Accept, Established);
    b.outbound(&out(ACK), Accept, Established);
    b.outbound(&out(FIN | ACK), Accept, Established);
    b.inbound(&back(FIN | ACK), Accept, Established);
    b.wait(5);
    b.outbound(&out(SYN), Accept, Default);
    b.inbound(&back(SYN | ACK), Accept, Established);
    b.outbound(&out(ACK), Accept, Established);
    // The same for a datagram protocol with fixed ports on both sides.
    b.outbound(&from_local(17, &udp(123, 123, &[])), Accept, Default);
    b.inbound(&from_remote(17, &udp(123, 123, &[])), Accept, Established);
    b.outbound(&from_local(17, &udp(123, 123, &[])), Accept, Established);
    b.wait(40);
    b.outbound(&from_local(17, &udp(123, 123, &[])), Accept, Default);
    b.inbound(&from_remote(17, &udp(123, 123, &[])), Accept, Established);
}

#[test]
fn a_repeated_syn_does_not_confirm() {
    let Some(mut b) = Bench::new() else { return };
    b.inbound(&to_server(SYN), Accept, Rule);
    b.outbound(&from_server(SYN | ACK), Accept, Established);
    b.inbound(&to_server(SYN), Accept, Established);
    // Still half open: it is forgotten after ten seconds, not after 910.
    b.wait(12);
    b.outbound(&from_server(SYN | ACK), Accept, Rule);
}

#[test]
fn what_is_cut_stays_cut_even_after_a_reset() {
    let Some(mut b) = Bench::new() else { return };
    handshake(&mut b);
    b.inbound(&to_server(RST), Accept, Established);
    b.change(CLOSED, on_change::CUT);
    b.outbound(&from_server(ACK), Drop, Cut);
    b.wait(30);
    b.outbound(&from_server(ACK), Drop, Cut);
}

#[test]
fn only_echo_replies_belong_to_an_echo() {
    let Some(mut b) = Bench::new() else { return };
    b.change(CLOSED, on_change::CUT);
    b.outbound(&from_local(1, &icmp(8, 0, &[])), Accept, Default);
    b.inbound(&from_remote(1, &icmp(0, 0, &[])), Accept, Established);
    b.inbound(&from_remote(1, &icmp(8, 0, &[])), Drop, Default);
    b.inbound(&from_remote(1, &icmp(13, 0, &[])), Drop, Default);
    let zero = |kind| vec![kind, 0, 0, 0, 0, 0, 0, 1];
    b.outbound(&from_local(1, &zero(8)), Accept, Default);
    b.inbound(&from_remote(1, &icmp(5, 0, &[0; 20])), Drop, Default);
    b.inbound(&from_remote(1, &zero(0)), Accept, Established);
}

#[test]
fn packet_too_big_about_a_packet_with_extension_headers() {
    let Some(mut b) = Bench::new() else { return };
    b.change(CLOSED, on_change::CUT);
    let mut first = udp(5000, 6000, &[7; 16]);
    first[4..6].copy_from_slice(&1000_u16.to_be_bytes());
    let sent = v6_bytes(L6, R6, 44, 64, &frag6(17, 0, true, 5, &first));
    let router = [0x20, 1, 0xd, 0xb8, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let error = |quoted: &[u8]| v6(router, L6, 58, &icmp(2, 0, quoted));
    b.inbound(&error(&sent), Drop, Default);
    b.outbound(&eth(0x86dd, &sent), Accept, Default);
    b.inbound(&error(&sent), Accept, Related);
    let later = v6_bytes(L6, R6, 44, 64, &frag6(17, 24, false, 5, &first));
    b.inbound(&error(&later), Drop, Default);
}
