//! What an administrator sets.

mod failsafe;
mod vpcs;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::Deserialize;
use sg_common::limits::{MAX_FLOWS, MAX_POLICY_RULES};
use sg_common::quota::MANAGEMENT;
use thiserror::Error;

use super::watch::wish::MAX_RATE;
pub use failsafe::{FailsafeConfig, PortEntry};

use crate::{
    api::{draft::Here, http::MAX_CONNECTIONS},
    dataplane::quotas::Settings,
    validate::Quotas,
};

/// The control socket.
pub const DEFAULT_SOCKET: &str = "/run/sg/sgd.sock";
/// The configuration file.
pub const DEFAULT_CONFIG: &str = "/etc/sg/sgd.toml";
/// Every key with its default and unit.
pub const EXAMPLE: &str = include_str!("../../sgd.toml");

/// The least and the most that `max_flows` can be.
pub const FLOWS: (u32, u32) = (1024, 4 << 20);

/// The file, see [`EXAMPLE`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Control socket.
    pub socket: PathBuf,
    /// Group that may use the socket beside root.
    pub socket_group: Option<String>,
    /// Directory on a BPF file system.
    pub pin_root: PathBuf,
    /// TCX where the kernel has it; else clsact.
    pub tcx: bool,
    /// Confirmed flows per address family.
    pub max_flows: u32,
    /// Directory of the state file.
    pub state_dir: PathBuf,
    /// Seconds that a guest device which is already up only observes when it is first protected.
    pub guest_observe: u32,
    /// `error`, `warn`, `info` or `debug`.
    pub log: Level,
    /// Verdicts a second and CPU that the reference evaluator judges once more.
    pub samples: u32,
    /// The control API.
    pub api: ApiConfig,
    /// Metrics for Prometheus.
    pub metrics: MetricsConfig,
    /// The log of flows.
    pub flow_log: FlowLogConfig,
    /// Bounds.
    pub quotas: QuotaConfig,
    /// Who may hold how many live flows.
    pub conntrack: ConntrackConfig,
    /// What no rule closes to the administrator.
    pub failsafe: FailsafeConfig,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures.
    Error,
    /// And what is not as it should be.
    Warn,
    /// And what changes.
    Info,
    /// And what is looked at.
    Debug,
}

/// The control API over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens; nowhere when empty.
    pub listen: String,
    /// PEM file of a certificate chain; TLS when it is set.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub private_key: Option<PathBuf>,
    /// The region it is.
    pub region: String,
    /// Whether calls for other regions are refused.
    pub strict_region: bool,
    /// VPCs beside `vpc-default`.
    #[serde(deserialize_with = "vpcs::read")]
    pub vpcs: Vec<String>,
    /// Calls a second of one key.
    pub rate: u32,
    /// Connections that one address may have at once.
    pub connections_per_address: usize,
    /// Security groups of one account.
    pub max_groups: usize,
    /// Prefix lists of one account.
    pub max_prefix_lists: usize,
    /// Port range lists of one account.
    pub max_port_lists: usize,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let here = Here::default();
        Self {
            listen: String::new(),
            certificate: None,
            private_key: None,
            region: here.region,
            strict_region: here.strict_region,
            vpcs: here.vpcs,
            rate: 1000,
            connections_per_address: MAX_CONNECTIONS / 2,
            max_groups: here.max_groups,
            max_prefix_lists: here.max_lists,
            max_port_lists: here.max_port_lists,
        }
    }
}

impl ApiConfig {
    /// Where it listens.
    ///
    /// # Errors
    /// What is no address, or one that others reach: secrets are not sent there in plain.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = self
            .listen
            .parse()
            .map_err(|_| format!("api.listen = {:?} is no address such as \"127.0.0.1:8080\"", self.listen))?;
        if self.certificate.is_some() != self.private_key.is_some() {
            return Err("api.certificate and api.private_key go together".into());
        }
        if !address.ip().is_loopback() && self.certificate.is_none() {
            return Err(format!(
                "api.listen = {:?} is not on the loopback device: other addresses need TLS, so set api.certificate and \
                 api.private_key",
                self.listen
            ));
        }
        Ok(Some(address))
    }
}

/// Metrics for Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where they are; nowhere when empty.
    pub listen: String,
    /// The most rules that have counters there.
    pub rules: usize,
}

impl MetricsConfig {
    /// Where it listens.
    ///
    /// # Errors
    /// What is no address, or one that others reach: they say who is protected how, without a key.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = self
            .listen
            .parse()
            .map_err(|_| format!("metrics.listen = {:?} is no address such as \"127.0.0.1:19100\"", self.listen))?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "metrics.listen = {:?} is not on the loopback device: metrics are for this machine only",
                self.listen
            ));
        }
        Ok(Some(address))
    }
}

/// The log of flows, see [`super::flow_log`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowLogConfig {
    /// Its file; no log, and no flow is counted, when empty.
    pub file: PathBuf,
    /// Seconds between looks at which flows are over.
    pub every: u32,
    /// Denied packets a second and CPU that are logged.
    pub denied: u32,
    /// Mebibytes at which the file is put aside.
    pub max_size: u32,
    /// Files that are kept beside the one in use.
    pub kept: u32,
}

impl Default for FlowLogConfig {
    fn default() -> Self {
        Self { file: PathBuf::new(), every: 10, denied: 100, max_size: 64, kept: 5 }
    }
}

impl FlowLogConfig {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        !self.file.as_os_str().is_empty()
    }

    fn check(&self) -> Result<(), String> {
        let Self { file, every, denied, max_size, kept } = self;
        if self.is_on() && !file.is_absolute() {
            return Err(format!("flow_log.file = {file:?} is not an absolute path"));
        }
        for (name, value, least, most) in [
            ("every", every, 1, 3600),
            ("denied", denied, 0, MAX_RATE),
            ("max_size", max_size, 1, 65_536),
            ("kept", kept, 1, 1000),
        ] {
            if !(least..=most).contains(value) {
                return Err(format!("flow_log.{name} = {value} is not from {least} to {most}"));
            }
        }
        Ok(())
    }
}

/// Bounds, see [`Quotas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// Rules of one interface.
    pub rules_per_interface: usize,
    /// Rules of a basic group that name a group.
    pub group_rules_per_group: usize,
    /// Groups of one interface.
    pub groups_per_interface: usize,
    /// Addresses in a basic group.
    pub addresses_per_normal_group: usize,
    /// Interfaces in an enterprise group.
    pub interfaces_per_enterprise_group: usize,
    /// Entries of a prefix list.
    pub prefix_list_entries: usize,
    /// Entries of a port range list.
    pub port_list_entries: usize,
    /// Groups whose rules name one prefix list.
    pub groups_per_prefix_list: usize,
}

/// Who may hold how many confirmed flows, see [`Settings`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConntrackConfig {
    /// Flows of one interface, for each address family.
    pub flows_per_interface: u32,
    /// Flows that one remote may hold of one interface.
    pub flows_per_remote: u32,
    /// Prefixes and addresses of remotes that no quota binds.
    pub management: Vec<String>,
}

impl ConntrackConfig {
    /// The same as the program needs it.
    ///
    /// # Errors
    /// What is no prefix, or that there are too many.
    pub fn settings(&self) -> Result<Settings, String> {
        let prefix = |text: &String| {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_| format!("management: {text:?} is neither a prefix such as \"192.0.2.0/24\" nor an address"))
        };
        if self.management.len() > MANAGEMENT {
            return Err(format!("management: {} prefixes, at most {MANAGEMENT} are possible", self.management.len()));
        }
        let management = self.management.iter().map(prefix).collect::<Result<_, _>>()?;
        Ok(Settings { interface: self.flows_per_interface, remote: self.flows_per_remote, management })
    }
}

impl Default for QuotaConfig {
    fn default() -> Self {
        let q = Quotas::default();
        Self {
            rules_per_interface: q.rules_per_interface,
            group_rules_per_group: q.group_rules_per_group,
            groups_per_interface: q.groups_per_interface,
            addresses_per_normal_group: q.addresses_per_normal_group,
            interfaces_per_enterprise_group: q.interfaces_per_enterprise_group,
            prefix_list_entries: q.prefix_list_entries,
            port_list_entries: q.port_list_entries,
            groups_per_prefix_list: q.groups_per_prefix_list,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            socket_group: None,
            pin_root: "/sys/fs/bpf/sg".into(),
            tcx: true,
            max_flows: MAX_FLOWS,
            state_dir: "/var/lib/sg".into(),
            guest_observe: 120,
            log: Level::Info,
            samples: 20,
            api: ApiConfig::default(),
            metrics: MetricsConfig::default(),
            flow_log: FlowLogConfig::default(),
            quotas: QuotaConfig::default(),
            conntrack: ConntrackConfig::default(),
            failsafe: FailsafeConfig::default(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Cannot be read.
    #[error("cannot read {path}: {error}; an annotated example: `sgd --print-config`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// Cannot be understood.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
}

impl Config {
    /// Reads a file; without one, the default file if it is there, else the defaults.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_CONFIG));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if path.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(ConfigError::Read { path: file.into(), error }),
        };
        Self::parse(&text).map_err(|message| ConfigError::Parse { path: file.into(), message })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        for (name, path) in
            [("socket", &config.socket), ("pin_root", &config.pin_root), ("state_dir", &config.state_dir)]
        {
            if !path.is_absolute() {
                return Err(format!("{name} = {path:?} is not an absolute path"));
            }
        }
        let (least, most) = FLOWS;
        if !(least..=most).contains(&config.max_flows) {
            return Err(format!("max_flows = {} is not from {least} to {most}", config.max_flows));
        }
        if config.quotas.groups_per_interface == 0 || config.quotas.rules_per_interface == 0 {
            return Err("quotas must be at least 1".into());
        }
        if config.samples > MAX_RATE {
            return Err(format!("samples = {} is not from 0 to {MAX_RATE}", config.samples));
        }
        config.flow_log.check()?;
        config.conntrack.settings()?;
        if let Some(failsafe) = config.failsafe.settings()? {
            let (quotas, ranges) = (&config.quotas, failsafe.ports.len());
            let all = quotas.rules_per_interface.saturating_add(quotas.groups_per_interface).saturating_add(ranges);
            if all > MAX_POLICY_RULES {
                return Err(format!(
                    "failsafe.ports: {ranges} port ranges, beside quotas.rules_per_interface and \
                     quotas.groups_per_interface, are more than the {MAX_POLICY_RULES} rules that one interface's tables hold"
                ));
            }
        }
        config.api.address()?;
        config.metrics.address()?;
        for path in config.api.certificate.iter().chain(&config.api.private_key) {
            if !path.is_absolute() {
                return Err(format!("{path:?} is not an absolute path"));
            }
        }
        if config.api.rate == 0 {
            return Err("api.rate must be at least 1".into());
        }
        let per_address = config.api.connections_per_address;
        if !(1..=MAX_CONNECTIONS).contains(&per_address) {
            return Err(format!("api.connections_per_address = {per_address} is not from 1 to {MAX_CONNECTIONS}"));
        }
        Ok(config)
    }

    /// What was called, and by whom.
    pub fn audit_file(&self) -> PathBuf {
        self.state_dir.join("audit.jsonl")
    }

    /// The access keys.
    pub fn keys_file(&self) -> PathBuf {
        self.state_dir.join("keys.json")
    }

    /// What the control API needs to know of this host.
    pub fn here(&self) -> Here {
        Here {
            region: self.api.region.clone(),
            strict_region: self.api.strict_region,
            vpcs: self.api.vpcs.clone(),
            max_groups: self.api.max_groups,
            max_lists: self.api.max_prefix_lists,
            max_port_lists: self.api.max_port_lists,
            quotas: self.quotas(),
            ..Here::default()
        }
    }

    /// The bounds for validation.
    pub fn quotas(&self) -> Quotas {
        Quotas {
            rules_per_interface: self.quotas.rules_per_interface,
            group_rules_per_group: self.quotas.group_rules_per_group,
            groups_per_interface: self.quotas.groups_per_interface,
            addresses_per_normal_group: self.quotas.addresses_per_normal_group,
            interfaces_per_enterprise_group: self.quotas.interfaces_per_enterprise_group,
            prefix_list_entries: self.quotas.prefix_list_entries,
            port_list_entries: self.quotas.port_list_entries,
            groups_per_prefix_list: self.quotas.groups_per_prefix_list,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_the_defaults() {
        assert_eq!(Config::parse(EXAMPLE).unwrap(), Config::default());
        let uncommented: String =
            EXAMPLE.lines().map(|l| l.strip_prefix("#= ").unwrap_or(l)).collect::<Vec<_>>().join("\n");
        let all = Config::parse(&uncommented).unwrap();
        assert_eq!(all.socket_group.as_deref(), Some("sg"));
    }

    #[test]
    fn bad_files_say_what_and_where() {
        assert!(Config::parse("sockt = '/x'").unwrap_err().contains("unknown field `sockt`"));
        assert!(Config::parse("socket = 'x'").unwrap_err().contains("not an absolute path"));
        assert!(Config::parse("max_flows = 1023").unwrap_err().contains("is not from 1024 to 4194304"));
        assert!(Config::parse("log = 'loud'").unwrap_err().contains("loud"));
        for wrong in ["0", "513"] {
            let e = Config::parse(&format!("[api]\nconnections_per_address = {wrong}")).unwrap_err();
            assert!(e.contains("is not from 1 to 512"), "{e}");
        }
        let metrics = |listen: &str| Config::parse(&format!("[metrics]\nlisten = '{listen}'"));
        assert!(metrics("127.0.0.1:19100").is_ok() && metrics("[::1]:19100").is_ok());
        for elsewhere in ["0.0.0.0:19100", "192.0.2.1:19100", "[::]:19100"] {
            assert!(metrics(elsewhere).unwrap_err().contains("is not on the loopback device"));
        }
        assert!(metrics("localhost").unwrap_err().contains("is no address"));
        let management = |list: &str| Config::parse(&format!("[conntrack]\nmanagement = [{list}]"));
        assert!(management("'192.0.2.0/33'").unwrap_err().contains("neither a prefix"));
        assert!(management(&"'192.0.2.1',".repeat(17)).unwrap_err().contains("at most 16"));
        let settings = management("'192.0.2.1', '2001:db8::/32'").unwrap().conntrack.settings().unwrap();
        let texts: Vec<String> = settings.management.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.1/32", "2001:db8::/32"]);
    }
}
