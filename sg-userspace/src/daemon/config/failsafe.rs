//! `[failsafe]`: management ports that no rule closes to the administrator.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::failsafe::{Failsafe, MAX_PORTS, MAX_SOURCES};

/// Characters of a device's name, see `IFNAMSIZ`.
const MAX_DEVICE: usize = 15;

/// See [`Failsafe`]; off while it has no ports and no sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailsafeConfig {
    /// TCP ports.
    pub ports: Vec<PortEntry>,
    /// Prefixes and addresses.
    pub sources: Vec<String>,
    /// Names and patterns of devices; those of side host when empty.
    pub devices: Vec<String>,
}

/// A port, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PortEntry {
    /// One.
    One(i64),
    /// `22`, `2200-2299` or `2200/2299`.
    Text(String),
}

impl PortEntry {
    fn range(&self) -> Result<(u16, u16), String> {
        let text = match self {
            Self::One(port) => port.to_string(),
            Self::Text(text) => text.clone(),
        };
        let (first, last) = text.split_once(['-', '/']).unwrap_or((&text, &text));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => {
                Err(format!("failsafe.ports: {text:?} is neither a port from 1 to 65535 nor a range such as \"22-25\""))
            }
        }
    }
}

/// Ranges that overlap or touch are one: each is a rule and a counter of its own.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

impl FailsafeConfig {
    /// The failsafe; `None` when it is off.
    ///
    /// # Errors
    /// What is wrong with it, and that a part of it is missing: half a failsafe is none,
    /// which is found out when it is needed.
    pub fn settings(&self) -> Result<Option<Failsafe>, String> {
        let missing = |key: &str, what: &str| Err(format!("failsafe.{key} is empty: {what}, or leave [failsafe] out"));
        match (self.ports.is_empty(), self.sources.is_empty()) {
            (true, true) if self.devices.is_empty() => return Ok(None),
            (true, _) => return missing("ports", "say which TCP ports stay open, such as [22]"),
            (_, true) => return missing("sources", "say from where, such as [\"203.0.113.0/24\"]"),
            (false, false) => {}
        }
        let ports = merged(self.ports.iter().map(PortEntry::range).collect::<Result<_, _>>()?);
        let source = |text: &String| {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let net = net.map(|net| net.trunc());
            net.map_err(|_| {
                format!("failsafe.sources: {text:?} is neither a prefix such as \"192.0.2.0/24\" nor an address")
            })
        };
        // Nobody connects from these, nor does IPv4 from what looks like it in IPv6.
        let nobody = ["0.0.0.0/8", "224.0.0.0/4", "::/128", "ff00::/8", "::ffff:0:0/96"];
        let nobody: Vec<IpNet> = nobody.iter().filter_map(|net| net.parse().ok()).collect();
        let impossible = |net: &IpNet| nobody.iter().any(|n| n.contains(net));
        let source = |text: &String| {
            let net = source(text)?;
            if impossible(&net) {
                return Err(format!("failsafe.sources: {text:?} is no address that anybody connects from"));
            }
            Ok(net)
        };
        let mut sources = self.sources.iter().map(source).collect::<Result<Vec<_>, _>>()?;
        sources.sort_unstable();
        sources.dedup();
        for (key, n, most) in [("ports", ports.len(), MAX_PORTS), ("sources", sources.len(), MAX_SOURCES)] {
            if n > most {
                return Err(format!("failsafe.{key}: {n} of them, at most {most} are possible"));
            }
        }
        if let Some(device) = self.devices.iter().find(|d| d.is_empty() || d.len() > MAX_DEVICE) {
            return Err(format!("failsafe.devices: {device:?} is no name of a device, nor a pattern such as \"eth*\""));
        }
        Ok(Some(Failsafe { ports, sources, devices: self.devices.clone() }))
    }

    /// What is possible, and hardly anybody wants.
    pub fn warnings(&self) -> Vec<String> {
        let Ok(Some(failsafe)) = self.settings() else { return Vec::new() };
        let warn = |net: &IpNet| {
            let services = failsafe.services();
            format!(
                "failsafe.sources has {net}: everybody reaches {services}, and no rule closes it; name the addresses \
                 that you manage this host from"
            )
        };
        failsafe.everybody().map(warn).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::daemon::config::Config;

    fn settings(text: &str) -> Result<Option<super::Failsafe>, String> {
        Config::parse(&format!("[failsafe]\n{text}")).and_then(|c| c.failsafe.settings())
    }

    #[test]
    fn ports_and_sources_are_read() {
        assert_eq!(settings(""), Ok(None));
        let read = settings(
            "ports = [22, '8443', '2200-2299', '2300/2310', 22]\nsources = ['203.0.113.9/24', '2001:db8::1', \
             '203.0.113.0/24']",
        );
        let read = read.unwrap().unwrap();
        let from = |source: &str| settings(&format!("ports = [22]\nsources = ['{source}']"));
        for nobody in ["0.0.0.0", "224.0.0.1", "::", "ff02::1", "::ffff:203.0.113.7"] {
            assert!(from(nobody).unwrap_err().contains("no address that anybody connects from"), "{nobody}");
        }
        for many in ["0.0.0.0/0", "0.0.0.0/1", "::/0", "::/1", "128.0.0.0/1"] {
            assert!(from(many).is_ok(), "{many}");
        }
        assert_eq!(read.ports, [(22, 22), (2200, 2310), (8443, 8443)]);
        let sources: Vec<String> = read.sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["203.0.113.0/24", "2001:db8::1/128"]);
        assert!(read.devices.is_empty());
    }

    #[test]
    fn half_a_failsafe_is_refused() {
        for (text, says) in [
            ("ports = [22]", "failsafe.sources is empty"),
            ("sources = ['192.0.2.1']", "failsafe.ports is empty"),
            ("devices = ['eth0']", "failsafe.ports is empty"),
            ("ports = [0]\nsources = ['192.0.2.1']", "\"0\" is neither a port"),
            ("ports = [70000]\nsources = ['192.0.2.1']", "\"70000\" is neither a port"),
            ("ports = ['25-22']\nsources = ['192.0.2.1']", "\"25-22\" is neither a port"),
            ("ports = [22]\nsources = ['office']", "\"office\" is neither a prefix"),
            ("ports = [22]\nsources = ['192.0.2.1']\ndevices = ['']", "is no name of a device"),
            ("port = [22]", "unknown field `port`"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let many = |n: u32| (0..n).map(|i| format!("'10.0.{i}.1'")).collect::<Vec<_>>().join(",");
        assert!(settings(&format!("ports = [22]\nsources = [{}]", many(64))).is_ok());
        let error = settings(&format!("ports = [22]\nsources = [{}]", many(65))).unwrap_err();
        assert!(error.contains("65 of them, at most 64"), "{error}");
        let ports: Vec<String> = (1..=13).map(|i| (i * 10).to_string()).collect();
        let error = settings(&format!("ports = [{}]\nsources = ['192.0.2.1']", ports.join(","))).unwrap_err();
        assert!(error.contains("13 of them, at most 12"), "{error}");
    }

    #[test]
    fn everybody_is_warned_of() {
        let warnings = |sources: &str| {
            Config::parse(&format!("[failsafe]\nports = [22]\nsources = [{sources}]")).unwrap().failsafe.warnings()
        };
        assert!(warnings("'192.0.2.0/24'").is_empty());
        let all = warnings("'0.0.0.0/0', '::/0'");
        assert_eq!(all.len(), 2);
        assert!(all[0].contains("everybody reaches tcp 22"), "{all:?}");
    }
}
