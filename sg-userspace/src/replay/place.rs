//! Whose packet it is, and which way it went: by its addresses.

use std::collections::BTreeSet;

use sg_common::addr::Addr;
use sg_ebpf::parse::Parsed;

use crate::model::Direction;

/// Why a packet is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// Neither of its addresses is one of the device's.
    Foreign,
    /// Both are: it was captured elsewhere than at the device.
    Within,
    /// It is neither IP nor ARP.
    NoIp,
    /// It was cut in its headers.
    Cut,
    /// Its addresses cannot be read.
    Malformed,
    /// Links of that type are not known.
    Link(i32),
}

impl Skip {
    /// What it is called in the summary.
    pub fn text(self) -> String {
        match self {
            Self::Foreign => "neither of its addresses is the device's".into(),
            Self::Within => "both of its addresses are the device's".into(),
            Self::NoIp => "neither IP nor ARP".into(),
            Self::Cut => "cut before its headers end (snaplen)".into(),
            Self::Malformed => "malformed: its addresses cannot be read".into(),
            Self::Link(link) => format!("link type {link} is not known"),
        }
    }
}

/// Which way a packet went, seen from whoever has these addresses.
///
/// # Errors
/// It cannot be told.
pub fn direction(parsed: &Parsed, own: &BTreeSet<Addr>) -> Result<Direction, Skip> {
    match (own.contains(&parsed.src), own.contains(&parsed.dst)) {
        (true, false) => Ok(Direction::Outbound),
        (false, true) => Ok(Direction::Inbound),
        (true, true) => Err(Skip::Within),
        (false, false) => Err(Skip::Foreign),
    }
}

/// The one of several devices whose packets a capture holds, by packets seen of each.
///
/// # Errors
/// It is none, or several: what to say.
pub fn only(names: &[String], packets: &[u64]) -> Result<usize, String> {
    let seen: Vec<usize> = (0..names.len()).filter(|&i| packets[i] > 0).collect();
    match seen[..] {
        [one] => Ok(one),
        [] => Err(format!(
            "the capture holds no packet of {}: name the device with --device and its addresses with --local",
            names.join(", ")
        )),
        _ => {
            let of = |&i: &usize| format!("{} ({} packets)", names[i], packets[i]);
            let all: Vec<String> = seen.iter().map(of).collect();
            Err(format!("the capture holds packets of {}: name one with --device", all.join(", ")))
        }
    }
}
