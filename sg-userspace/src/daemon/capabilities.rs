//! What the daemon may do, looked at before it is tried.

/// Bits of the capabilities that are needed, see capabilities(7).
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// On kernels before 5.8 this stood for the last two.
const SYS_ADMIN: u32 = 21;

/// Effective capabilities, from the text of `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn lacking(set: u64) -> Vec<&'static str> {
    let has = |bit: u32| set & (1 << bit) != 0;
    NEEDED.iter().filter(|(bit, _)| !(has(*bit) || (*bit > 32 && has(SYS_ADMIN)))).map(|(_, name)| *name).collect()
}

/// Names of the capabilities that this process lacks.
pub fn missing() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).map(lacking).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named() {
        assert_eq!(lacking(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert!(lacking(1 << 12 | 1 << 38 | 1 << 39).is_empty());
        assert_eq!(lacking(1 << 12 | 1 << 38), ["CAP_BPF"]);
        assert!(lacking(1 << 12 | 1 << 21).is_empty());
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
    }
}
