//! The failsafe, as the status shows it.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Management ports that the administrator's sources reach whatever rules say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailsafeView {
    /// `tcp 22, 2200-2299`.
    pub services: String,
    /// From where.
    pub sources: Vec<IpNet>,
    /// Names and patterns of devices, or which ones.
    pub place: String,
    /// Protected devices that have it now.
    pub devices: Vec<String>,
}
