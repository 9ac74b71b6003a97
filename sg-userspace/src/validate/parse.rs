//! Texts to values, each refusal with its remedy.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::document::{Problems, Text};

/// Reads one text with a parser that explains itself.
pub fn read<T>(
    text: &Text,
    path: &str,
    problems: &mut Problems,
    parser: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match parser(text.value.as_str()) {
        Ok(value) => Some(value),
        Err(message) => {
            problems.add(&text.at, path, message, None);
            None
        }
    }
}

/// One of several words, in any case.
pub fn word<T: Copy>(choices: &[(&str, T)], text: &str) -> Result<T, String> {
    choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is not one of: {}", names.join(", "))
    })
}

/// A whole number within bounds.
pub fn number(text: &str, min: u32, max: u32) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(n) if digits && (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a whole number from {min} to {max}")),
    }
}

/// A protocol: `None` is every one.
pub fn protocol(text: &str) -> Result<Option<u8>, String> {
    const NAMES: &[(&str, Option<u8>)] = &[
        ("tcp", Some(6)),
        ("udp", Some(17)),
        ("icmp", Some(1)),
        ("icmpv6", Some(58)),
        ("gre", Some(47)),
        ("all", None),
    ];
    if let Ok(value) = word(NAMES, text) {
        return Ok(value);
    }
    number(text, 0, 255)
        .map(|n| Some(n as u8))
        .map_err(|_| format!("{text:?} is not a protocol: TCP, UDP, ICMP, ICMPv6, GRE, ALL or a number from 0 to 255"))
}

/// `first/last`, 1 to 65535; `-1/-1` is `None`.
pub fn ports(text: &str) -> Result<Option<(u16, u16)>, String> {
    if text == "-1/-1" {
        return Ok(None);
    }
    let Some((first, last)) = text.split_once('/') else {
        return Err(match number(text, 1, 65_535) {
            Ok(port) => format!("{text:?} is not a range; write {port}/{port}"),
            Err(_) => format!("{text:?} is not a port range; write it as first/last, such as 80/80 or 8000/8999"),
        });
    };
    let port = |t: &str| number(t, 1, 65_535).map_err(|_| format!("{t:?} in {text:?} is not a port from 1 to 65535"));
    let (first, last) = (port(first)? as u16, port(last)? as u16);
    if first > last {
        return Err(format!("{text:?} is reversed; write {last}/{first}"));
    }
    Ok(Some((first, last)))
}

/// A prefix or a bare address of one family. Host bits are legal, and cleared.
pub fn cidr(text: &str, v4: bool) -> Result<IpNet, String> {
    let net = any_cidr(text)?;
    if matches!(net, IpNet::V4(_)) != v4 {
        let (is, wanted) = if v4 { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
        return Err(format!("{text:?} is {is}, this field takes {wanted}"));
    }
    Ok(net.trunc())
}

fn any_cidr(text: &str) -> Result<IpNet, String> {
    let help = "write an address, or a prefix such as 10.0.0.0/8 or 2001:db8::/32";
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr =
            address.parse().map_err(|_| format!("{address:?} in {text:?} is not an address; {help}"))?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let length = number(length, 0, max).map_err(|_| format!("the length in {text:?} is not from 0 to {max}"))?;
        return IpNet::new(address, length as u8).map_err(|e| format!("{text:?}: {e}"));
    }
    text.parse::<IpAddr>().map(IpNet::from).map_err(|_| format!("{text:?} is not a prefix; {help}"))
}

/// A prefix of a prefix list: host bits are not legal.
pub fn list_cidr(text: &str, v4: bool) -> Result<IpNet, String> {
    let net = any_cidr(text)?;
    if net.trunc() != net {
        return Err(format!("{text:?} has host bits set; write {}", net.trunc()));
    }
    cidr(text, v4).map_err(|e| format!("{e} (address_family of the list)"))
}

/// An address.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("{text:?} can not be an interface's address"));
    }
    if let IpAddr::V6(v6) = ip
        && v6.to_ipv4_mapped().is_some()
    {
        return Err(format!("{text:?} is a mapped IPv4 address; write it as IPv4"));
    }
    Ok(ip)
}
