//! What the fuzz targets do with hostile bytes, and what must hold whatever
//! they are. Part of the library, so that inputs worth keeping are plain tests.
//!
//! # Layout
//! - [`world`]: policies that packets are judged by
//! - [`flows`]: conntrack tables in memory, small enough to overflow
//! - [`pipeline`]: packets in any order, against the reference and a plain set of flows
//! - [`related`]: ICMP errors that quote what they like
//! - [`request`]: requests of the control API
//! - here: the parser of packets, the reader of documents

pub mod flows;
pub mod pipeline;
pub mod related;
pub mod request;
pub mod world;

use sg_ebpf::{
    Scratch,
    packet::Bytes,
    parse::{Fragment, Kind},
};

use crate::{
    compiler::{
        compile,
        host::{HostPolicy, HostTables},
    },
    daemon::documents::export,
    document::{Source, parse as read},
    effective::PolicyKey,
    model::Model,
    validate::{Quotas, validate},
};

/// A fuzz target: panics when what it promises does not hold.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("parse", parse),
    ("related", related::run),
    ("document", document),
    ("pipeline", pipeline::run),
    ("request", request::run),
];

/// Takes values off the front; zero once nothing is left.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }
    /// Two bytes.
    pub fn half(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }
    /// Up to so many bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// The parser of packets: what it takes lies within the packet, and says the
/// same when bytes that it did not need are cut off.
pub fn parse(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let l2 = how & 1 == 0;
    let packet = |data| Bytes { data, vlan: (how & 2 != 0).then_some(5), super_packet: how & 4 != 0 };
    let mut scratch = Scratch::default();
    if sg_ebpf::parse::parse(&packet(input.0), l2, &mut scratch.parsed).is_err() {
        return;
    }
    let p = scratch.parsed;
    if p.kind != Kind::Ip {
        return;
    }
    let end = (p.l4 + p.l4_len) as usize;
    assert!(end <= input.0.len(), "{p:?} reaches past {} bytes", input.0.len());
    assert_eq!((p.src.is_v4(), p.dst.is_v4()), (p.v4, p.v4), "{p:?}");
    if p.fragment != Fragment::Later {
        assert!(u32::from(p.header_len) <= p.l4_len, "{p:?}");
    }
    if how & 4 == 0 {
        let mut again = Scratch::default();
        let result = sg_ebpf::parse::parse(&packet(&input.0[..end]), l2, &mut again.parsed);
        assert_eq!(result, Ok(()), "without what follows the datagram: {p:?}");
        assert_eq!(again.parsed, p);
    }
}

/// The reader of documents: what it takes can be written and read again, and
/// compiles, or says why not.
pub fn document(data: &[u8]) {
    let Ok(document) = read(&[Source { name: "fuzz".into(), bytes: data.to_vec() }]) else { return };
    let written = export(&document);
    let again = read(&[Source { name: "again".into(), bytes: written.clone().into_bytes() }]);
    assert_eq!(again.as_ref().ok(), Some(&document), "written as\n{written}");
    let Ok(model) = validate(&document, &Quotas::default()) else { return };
    compiles(&model);
}

fn compiles(model: &Model) {
    let instances = model.declared_instances();
    for instance in instances.iter().take(2) {
        let key = PolicyKey::of(model, instance);
        let Ok(tables) = compile(model, &instances, &key, |_| 1) else { continue };
        let own = instance.addresses.iter().map(|a| (*a).into()).collect();
        let tables = HostTables { policy: HostPolicy::new(&tables), own };
        let reference = crate::reference::Reference::new(model, &instances);
        let index = instances.iter().position(|i| std::ptr::eq(i, instance)).unwrap_or(0);
        for query in world::queries(instance) {
            let frame = crate::packet::first_packet(&query, world::SENDER);
            let mut scratch = Scratch::default();
            scratch.begin(world::START, query.direction);
            let stages = sg_ebpf::Direct { packet: &Bytes::new(&frame), tables: &tables };
            let generation = crate::dataplane::probe::generation_of(model, instance, 1);
            let decision = sg_ebpf::pipeline(&stages, &generation, &mut scratch);
            let expected = reference.judge(index, &query);
            assert_eq!(
                (decision.verdict, decision.reason),
                (expected.verdict, expected.reason as u8),
                "{query:?} of {instance:?}"
            );
        }
    }
}

/// Inputs kept as text: one a line, in hexadecimal; empty lines and comments between.
///
/// # Panics
/// What is no hexadecimal.
pub fn unpack(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} is no byte"))
    };
    lines.filter(|l| !l.is_empty()).map(|l| l.as_bytes().chunks(2).map(byte).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: [&str; 5] = [
        include_str!("../fuzz/corpora/parse.hex"),
        include_str!("../fuzz/corpora/related.hex"),
        include_str!("../fuzz/corpora/document.hex"),
        include_str!("../fuzz/corpora/pipeline.hex"),
        include_str!("../fuzz/corpora/request.hex"),
    ];

    #[test]
    fn kept_inputs_hold() {
        for ((name, target), text) in TARGETS.iter().zip(KEPT) {
            let inputs = unpack(text);
            assert!(!inputs.is_empty(), "nothing is kept for {name}");
            for input in inputs {
                target(&input);
            }
        }
    }

    /// Without a fuzzer: noise, from a seed.
    #[test]
    fn noise_holds() {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 200).map(|_| next()).collect();
            TARGETS.iter().for_each(|(_, target)| target(&bytes));
        }
    }
}
