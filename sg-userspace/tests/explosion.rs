//! Documents built to blow up the classes: each compiles to bounded memory and
//! costs no more loads than any other, or is refused with numbers.

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use sg_common::{
    addr::Addr,
    flow::Direction,
    policy::{AddrClass, CLASS_SIZES},
};
use sg_ebpf::{
    classify::{Query, classify},
    tables::{Addresses, Flat},
};
use sg_userspace::{
    compiler::{CompileError, Tables, compile, host::HostPolicy},
    document::{Source, parse},
    effective::{Origin, PolicyKey},
    model::{Instance, Model, Verdict},
    reference::{FlowQuery, Reference},
    validate::{Quotas, validate},
};
use support::{Random, scale};

/// Counts what is allocated, and the most that ever was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn more(bytes: usize) {
    MOST.fetch_max(NOW.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

// SAFETY: the system's allocator does all; only sizes are counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that a compilation may take beside the document: the largest flat
/// value a few times over, and address nodes with their sets of rules.
const MEMORY: usize = 512 << 20;
/// Loads and questions of one decision: header, one table of each field, and in
/// bit-vector mode four vectors of sixteen words.
const LOADS: u32 = 110;
/// Flows asked of each; times the scale.
const FLOWS: usize = 2000;

/// One test at a time: they share the count of what is allocated.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what a decision reads.
struct Counted<'a> {
    policy: &'a HostPolicy,
    loads: Cell<u32>,
}

impl Counted<'_> {
    fn one(&self) {
        self.loads.set(self.loads.get() + 1);
    }
}

impl Flat for Counted<'_> {
    fn u16(&self, offset: u32) -> u16 {
        self.one();
        self.policy.u16(offset)
    }
    fn u32(&self, offset: u32) -> u32 {
        self.one();
        self.policy.u32(offset)
    }
    fn u64(&self, offset: u32) -> u64 {
        self.one();
        self.policy.u64(offset)
    }
}

impl Addresses for Counted<'_> {
    fn host(&self, addr: &Addr) -> Option<AddrClass> {
        self.one();
        self.policy.host(addr)
    }
    fn prefix(&self, addr: &Addr, v4: bool, local: bool) -> Option<AddrClass> {
        self.one();
        self.policy.prefix(addr, v4, local)
    }
}

/// Bounds as an administrator could raise them, where the document passes them.
fn quotas() -> Quotas {
    Quotas {
        rules_per_interface: 1_000_000,
        group_rules_per_group: 1000,
        groups_per_interface: 20,
        prefix_list_entries: 1000,
        ..Quotas::default()
    }
}

fn model(text: &str) -> Model {
    let document = parse(&[Source { name: "explosion".into(), bytes: text.into() }]).unwrap();
    validate(&document, &quotas()).unwrap_or_else(|e| panic!("{e}"))
}

struct Compiled {
    tables: Tables,
    origins: Vec<Origin>,
}

/// Compiles instance 0; time and memory are bounded, whatever comes of it.
fn bounded(name: &str, model: &Model, instances: &[Instance]) -> Result<Compiled, CompileError> {
    let key = PolicyKey::of(model, &instances[0]);
    let mut origins = Vec::new();
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let began = Instant::now();
    let tables = compile(model, instances, &key, |origin| {
        origins.push(origin);
        origins.len() as u32
    });
    let took = began.elapsed();
    let peak = MOST.load(Ordering::Relaxed).saturating_sub(before);
    match &tables {
        Ok(t) => eprintln!(
            "{name}: {} bytes, {} hosts, {} prefixes, {:?}; {} MiB at most, {took:?}",
            t.flat.len(),
            t.hosts.len(),
            t.prefixes.len(),
            t.shape,
            peak >> 20
        ),
        Err(e) => eprintln!("{name}: refused: {e}; {} MiB at most, {took:?}", peak >> 20),
    }
    assert!(peak <= MEMORY, "{name}: {} MiB", peak >> 20);
    assert!(took.as_secs() < 20, "{name}: {took:?}");
    let tables = tables?;
    assert!(tables.flat.len() <= CLASS_SIZES[2] as usize, "{name}");
    Ok(Compiled { tables, origins })
}

/// Compiled and reference agree on drawn flows, and none costs more than the bound.
fn agree(name: &str, model: &Model, instances: &[Instance], compiled: &Compiled, mut draw: impl FnMut() -> FlowQuery) {
    let policy = HostPolicy::new(&compiled.tables);
    let reference = Reference::new(model, instances);
    let (mut most, mut accepted, mut by_rule) = (0, 0, 0);
    let flows = FLOWS * scale() as usize;
    for _ in 0..flows {
        let q = draw();
        let (source_port, destination_port) = match q.direction {
            Direction::Inbound => (q.remote_port, q.local_port),
            Direction::Outbound => (q.local_port, q.remote_port),
        };
        let query = Query {
            local: q.local.into(),
            remote: q.remote.into(),
            source_port,
            destination_port,
            protocol: q.protocol,
            direction: q.direction as u8,
            v4: u8::from(q.remote.is_ipv4()),
            pad: 0,
        };
        let counted = Counted { policy: &policy, loads: Cell::new(0) };
        let row = classify(&counted, &counted, &query).unwrap();
        most = most.max(counted.loads.get());
        let want = reference.judge(0, &q);
        let origin = row.counter.checked_sub(1).map(|i| compiled.origins[i as usize]);
        let rule = match origin {
            Some(Origin::Rule(g, r)) => Some((g, r)),
            _ => None,
        };
        assert_eq!((row.verdict, row.reason), (want.verdict as u8, want.reason as u8), "{name}: {q:?}: {want:?}");
        assert_eq!(rule, want.group.zip(want.rule), "{name}: {q:?}");
        accepted += usize::from(want.verdict == Verdict::Accept);
        by_rule += usize::from(rule.is_some());
    }
    eprintln!("{name}: {flows} flows, {accepted} accepted, {by_rule} decided by a rule, at most {most} loads");
    assert!(most <= LOADS, "{name}: {most} loads");
    assert!(by_rule > flows / 100, "{name}: the flows miss the rules");
}

/// A document of one interface `e` at 10.0.0.1 in the first group.
fn document(groups: &str, more: &str) -> String {
    format!(
        "security_groups:\n{groups}network_interfaces:\n\
         - {{device: e, private_ip_addresses: [10.0.0.1, '2001:db8::1'], security_group_ids: [g0]}}\n{more}"
    )
}

fn inbound(protocol: u8, remote: IpAddr, local_port: u16, remote_port: u16) -> FlowQuery {
    let local: IpAddr = if remote.is_ipv4() { [10, 0, 0, 1].into() } else { "2001:db8::1".parse().unwrap() };
    FlowQuery {
        direction: Direction::Inbound,
        protocol,
        local,
        remote,
        local_port,
        remote_port,
        icmp_type: 0,
        icmp_code: 0,
    }
}

fn port(r: &mut Random) -> u16 {
    (1 + r.below(65_535)) as u16
}

/// A prefix out of a nest: every length, around few addresses.
fn nested(r: &mut Random, six: bool) -> String {
    if six {
        let address = 0x2001_0db8_u128 << 96 | u128::from(r.next()) << 40;
        let length = 16 + r.below(100) as u8;
        return ipnet::Ipv6Net::new(Ipv6Addr::from(address), length).unwrap().trunc().to_string();
    }
    let address = u32::from_be_bytes([11, r.below(4) as u8 * 64, r.below(256) as u8, r.below(256) as u8]);
    ipnet::Ipv4Net::new(Ipv4Addr::from(address), 8 + r.below(25) as u8).unwrap().trunc().to_string()
}

fn near(r: &mut Random) -> IpAddr {
    if r.chance(50) {
        return IpAddr::from([11, r.below(4) as u8 * 64, r.below(256) as u8, r.below(256) as u8]);
    }
    IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(r.next()) << 40 | u128::from(r.next() >> 40)).into())
}

fn rules(count: usize, mut line: impl FnMut(usize) -> String) -> String {
    let mut text = String::from("- security_group_name: g0\n  permissions:\n");
    for i in 0..count {
        let policy = if i % 3 == 0 { "drop" } else { "accept" };
        let _ = writeln!(text, "  - {{direction: ingress, policy: {policy}, priority: {}, {}}}", i % 100 + 1, line(i));
    }
    text
}

/// 250 rules a field: every prefix, port range, source range and local prefix another.
#[test]
fn every_field_of_five_tuple_rules() {
    let _alone = alone();
    let mut r = Random::new(1);
    for count in [250, 1000] {
        let groups = rules(count, |i| {
            let (first, source) = (port(&mut r) / 2, port(&mut r) / 2);
            let six = i % 3 == 0;
            let (far, near) =
                if six { ("ipv6_source_cidr_ip", "ipv6_dest_cidr_ip") } else { ("source_cidr_ip", "dest_cidr_ip") };
            let local = if six {
                ipnet::Ipv6Net::new("2001:db8::1".parse().unwrap(), (i % 100) as u8 + 28).unwrap().trunc().to_string()
            } else {
                ipnet::Ipv4Net::new("10.0.0.1".parse().unwrap(), (i % 25) as u8 + 8).unwrap().trunc().to_string()
            };
            format!(
                "ip_protocol: tcp, port_range: {first}/{}, source_port_range: {source}/{}, {far}: '{}', {near}: '{local}'",
                first + 20_000 + i as u16,
                source + 20_000 + i as u16,
                nested(&mut r, six)
            )
        });
        let model = model(&document(&groups, ""));
        let instances = model.declared_instances();
        let name = format!("{count} five-tuple rules");
        let compiled = bounded(&name, &model, &instances).unwrap();
        assert!(compiled.tables.hosts.len() + compiled.tables.prefixes.len() <= 2 * count + 200, "{name}");
        let mut r = Random::new(2);
        agree(&name, &model, &instances, &compiled, || inbound(6, near(&mut r), port(&mut r), port(&mut r)));
    }
}

/// Another prefix and another range each: the matrix would have a cell for each pair.
#[test]
fn a_thousand_prefixes_and_ranges() {
    let _alone = alone();
    let mut r = Random::new(3);
    for six in [false, true] {
        let groups = rules(1000, |i| {
            let first = port(&mut r) / 2;
            let far = if six { "ipv6_source_cidr_ip" } else { "source_cidr_ip" };
            format!(
                "ip_protocol: {}, port_range: {first}/{}, {far}: '{}'",
                ["tcp", "udp"][i % 2],
                first + 1 + i as u16 * 30,
                nested(&mut r, six)
            )
        });
        let model = model(&document(&groups, ""));
        let instances = model.declared_instances();
        let name = if six { "1000 IPv6 prefixes and ranges" } else { "1000 IPv4 prefixes and ranges" };
        let compiled = bounded(name, &model, &instances).unwrap();
        assert!(compiled.tables.hosts.len() + compiled.tables.prefixes.len() <= 1000, "{name}");
        let mut r = Random::new(4);
        agree(name, &model, &instances, &compiled, || {
            inbound([6, 17][r.below(2)], near(&mut r), port(&mut r), port(&mut r))
        });
    }
}

/// Members `i` of both families.
fn member(i: usize) -> [IpAddr; 2] {
    let i = i as u32;
    // Spread out, so that each needs an entry of its own.
    let v4 = 0xac10_0000 | (i.wrapping_mul(2_654_435_761) & 0x000f_ffff);
    [IpAddr::V4(v4.into()), IpAddr::V6((0x2001_0db8_0001_u128 << 80 | u128::from(i) << 64 | 9).into())]
}

/// Twenty groups of six thousand addresses whose members are drawn anew for each.
#[test]
fn twenty_overlapping_groups_of_six_thousand() {
    let _alone = alone();
    let mut r = Random::new(5);
    const GROUPS: usize = 20;
    const MEMBERS: usize = 6000;
    // Each is in half of the groups, so twice as many fill all of them.
    let of: Vec<u32> = (0..MEMBERS)
        .map(|_| {
            loop {
                let set = r.next() as u32 & ((1 << GROUPS) - 1);
                if (1..=10).contains(&set.count_ones()) {
                    break set;
                }
            }
        })
        .collect();
    let mut groups = rules(20, |i| {
        format!("ip_protocol: tcp, port_range: {}/{}, source_group_id: m{i}", 1000 + i * 100, 40_000 + i * 100)
    });
    for g in 0..GROUPS {
        let _ = writeln!(groups, "- {{security_group_name: m{g}}}");
    }
    let mut more = String::new();
    for (i, set) in of.iter().enumerate() {
        let [v4, v6] = member(i);
        let names: Vec<String> = (0..GROUPS).filter(|g| set & 1 << g != 0).map(|g| format!("m{g}")).collect();
        let _ =
            writeln!(more, "- {{private_ip_addresses: [{v4}, '{v6}'], security_group_ids: [{}]}}", names.join(", "));
    }
    let model = model(&document(&groups, &more));
    let instances = model.declared_instances();
    let name = "20 groups, 12,000 addresses";
    let compiled = bounded(name, &model, &instances).unwrap();
    assert!(compiled.tables.hosts.len() + compiled.tables.prefixes.len() <= 2 * MEMBERS + 100, "{name}");
    assert!(compiled.tables.shape[0].remotes > 5000, "the groups were meant to overlap: {:?}", compiled.tables.shape);
    let mut r = Random::new(6);
    agree(name, &model, &instances, &compiled, || {
        inbound(6, member(r.below(MEMBERS + 10))[r.below(2)], (900 + r.below(42_000)) as u16, 5)
    });
}

/// The same, beside 250 rules for each field: classes of addresses times classes of services.
#[test]
fn groups_times_services() {
    let _alone = alone();
    let mut r = Random::new(7);
    const MEMBERS: usize = 6000;
    let mut groups = rules(400, |i| {
        let first = port(&mut r) / 2;
        if i < 20 {
            format!("ip_protocol: tcp, port_range: {first}/{}, source_group_id: m{i}", first + 10_000)
        } else {
            format!(
                "ip_protocol: tcp, port_range: {first}/{}, source_cidr_ip: '{}'",
                first + 10_000 + i as u16,
                nested(&mut r, false)
            )
        }
    });
    for g in 0..20 {
        let _ = writeln!(groups, "- {{security_group_name: m{g}}}");
    }
    let mut more = String::new();
    for i in 0..MEMBERS {
        let [v4, v6] = member(i);
        let names: Vec<String> = (0..20).filter(|_| r.chance(40)).take(10).map(|g| format!("m{g}")).collect();
        if !names.is_empty() {
            let _ = writeln!(
                more,
                "- {{private_ip_addresses: [{v4}, '{v6}'], security_group_ids: [{}]}}",
                names.join(", ")
            );
        }
    }
    let model = model(&document(&groups, &more));
    let instances = model.declared_instances();
    let name = "20 groups beside 380 rules";
    let compiled = bounded(name, &model, &instances).unwrap();
    let mut r = Random::new(8);
    agree(name, &model, &instances, &compiled, || {
        let remote = if r.chance(60) { member(r.below(MEMBERS))[r.below(2)] } else { near(&mut r) };
        inbound(6, remote, port(&mut r), 5)
    });
}

/// Port lists of two hundred ranges that overlap.
#[test]
fn port_lists_of_overlapping_ranges() {
    let _alone = alone();
    let mut r = Random::new(9);
    let groups = rules(100, |i| {
        format!(
            "ip_protocol: {}, port_range_list_id: p{i}, source_cidr_ip: '{}'",
            ["tcp", "udp"][i % 2],
            nested(&mut r, false)
        )
    });
    let mut more = String::from("port_range_lists:\n");
    for i in 0..100 {
        let mut ranges = std::collections::BTreeSet::new();
        while ranges.len() < 200 {
            let first = port(&mut r);
            ranges.insert((first, first.saturating_add(r.below(3000) as u16)));
        }
        let entries: Vec<String> = ranges.iter().map(|(a, b)| format!("{{port_range: {a}/{b}}}")).collect();
        let _ = writeln!(more, "- {{port_range_list_name: p{i}, entries: [{}]}}", entries.join(", "));
    }
    let model = model(&document(&groups, &more));
    let instances = model.declared_instances();
    let name = "100 lists of 200 ranges";
    match bounded(name, &model, &instances) {
        Ok(compiled) => {
            let mut r = Random::new(10);
            agree(name, &model, &instances, &compiled, || {
                inbound(
                    [6, 17][r.below(2)],
                    IpAddr::from([11, r.below(4) as u8 * 64, r.below(256) as u8, 9]),
                    port(&mut r),
                    5,
                )
            });
        }
        Err(e) => named(&e),
    }
}

/// A refusal says how much it would be, how much there is, and the way out.
fn named(e: &CompileError) {
    let text = e.to_string();
    assert!(text.chars().filter(char::is_ascii_digit).count() > 4 && text.contains("use fewer"), "{text}");
}

/// Past every bound: refused, by number, before memory is gone.
#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let _alone = alone();
    let mut r = Random::new(11);
    // More rules than a bit-vector has bits.
    let groups = rules(1100, |i| {
        format!("ip_protocol: tcp, port_range: {}/{}, source_cidr_ip: '{}'", i + 1, i + 1, nested(&mut r, false))
    });
    let rules_model = model(&document(&groups, ""));
    let refused = bounded("1100 rules", &rules_model, &rules_model.declared_instances()).err().unwrap();
    assert!(matches!(refused, CompileError::Rules { rules: 1101, .. }), "{refused}");
    named(&refused);

    // More classes of addresses than have numbers.
    let lists = 900;
    let mut groups = rules(lists, |i| {
        format!(
            "ip_protocol: tcp, port_range: {}/{}, source_port_range: 7/{}, source_prefix_list_id: p{i}",
            i + 1,
            30_000 + i,
            8 + i
        )
    });
    groups += "prefix_lists:\n";
    for i in 0..lists {
        let mut entries = std::collections::BTreeSet::new();
        while entries.len() < 300 {
            entries.insert(format!("{{cidr: 172.{}.{}.{}/32}}", 16 + r.below(2), r.below(256), r.below(256)));
        }
        let entries: Vec<String> = entries.into_iter().collect();
        let _ = writeln!(groups, "- {{prefix_list_name: p{i}, max_entries: 300, entries: [{}]}}", entries.join(", "));
    }
    let text = document("", "").replace("security_groups:\n", &format!("security_groups:\n{groups}"));
    let lists_model = model(&text);
    let refused = bounded("900 lists of 300 addresses", &lists_model, &lists_model.declared_instances()).err().unwrap();
    assert!(matches!(refused, CompileError::Size { .. } | CompileError::Classes { .. }), "{refused}");
    named(&refused);
}
