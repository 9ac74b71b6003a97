//! Protocols and ports to service classes.

use super::{
    bits::{Bits, Classes},
    skeleton::Line,
};

/// Service and source-port classes of one direction.
#[derive(Debug, Default)]
pub struct Services {
    /// Rules by class number; class 0 is a service no rule names.
    pub classes: Vec<Bits>,
    /// Class by protocol, for all but TCP and UDP.
    pub protocols: Vec<u16>,
    /// First port and class of each interval, ascending, from port 0.
    pub tcp: Vec<(u16, u16)>,
    /// The same for UDP.
    pub udp: Vec<(u16, u16)>,
    /// The same for source ports, over `source_classes`.
    pub source: Vec<(u16, u16)>,
    /// Rules by source-port class.
    pub source_classes: Vec<Bits>,
}

/// Walks the intervals that a list of ranges cuts the ports into.
fn intervals(ranges: &[(usize, u16, u16)], always: Bits, classes: &mut Classes) -> Vec<(u16, u16)> {
    let mut cuts: Vec<u32> = vec![0];
    for &(_, first, last) in ranges {
        cuts.extend([u32::from(first), u32::from(last) + 1]);
    }
    cuts.retain(|c| *c <= 65_535);
    cuts.sort_unstable();
    cuts.dedup();
    let mut begins = ranges.to_vec();
    begins.sort_unstable_by_key(|r| r.1);
    // Several ranges of one rule may overlap: count them.
    let mut open: Vec<(usize, u16)> = Vec::new();
    let mut next = begins.into_iter().peekable();
    let mut result: Vec<(u16, u16)> = Vec::new();
    for cut in cuts {
        open.retain(|(_, last)| u32::from(*last) >= cut);
        while let Some((i, _, last)) = next.next_if(|r| u32::from(r.1) <= cut) {
            open.push((i, last));
        }
        let mut bits = always;
        for (i, _) in &open {
            bits.set(*i);
        }
        let class = classes.number(bits) as u16;
        if result.last().is_none_or(|(_, c)| *c != class) {
            result.push((cut as u16, class));
        }
    }
    result
}

impl Services {
    /// Finds the classes.
    pub fn build(entries: &[Line]) -> Self {
        let mut classes = Classes::default();
        classes.number(Bits::default());
        let of_protocol =
            |protocol: u8| entries.iter().enumerate().filter(move |(_, e)| e.protocol.is_none_or(|p| p == protocol));
        let mut protocols = Vec::with_capacity(256);
        for protocol in 0..=255_u8 {
            let mut bits = Bits::default();
            for (i, _) in of_protocol(protocol).filter(|(_, e)| e.ports.is_none()) {
                bits.set(i);
            }
            protocols.push(classes.number(bits) as u16);
        }
        let mut ports = |protocol: u8| {
            let mut always = Bits::default();
            let mut some = Vec::new();
            for (i, entry) in of_protocol(protocol) {
                match &entry.ports {
                    None => always.set(i),
                    Some(list) => some.extend(list.iter().map(|&(first, last)| (i, first, last))),
                }
            }
            intervals(&some, always, &mut classes)
        };
        let (tcp, udp) = (ports(6), ports(17));
        let mut source_classes = Classes::default();
        let mut always = Bits::default();
        let mut some = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            match entry.source_ports {
                None => always.set(i),
                Some((first, last)) => some.push((i, first, last)),
            }
        }
        let source = intervals(&some, always, &mut source_classes);
        Self { classes: classes.sets, protocols, tcp, udp, source, source_classes: source_classes.sets }
    }
}
