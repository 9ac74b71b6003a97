//! `benchmarks.md` and its plots.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    figures::{Curve, Figure, markdown, short as short_number},
    plot::svg,
    profile::Profile,
};

/// What stands between a figure that is short and its goal, by a part of its name or its peer's.
const WHY: &[(&str, &str)] = &[
    (
        "nftables with conntrack, a rule each",
        "nftables walks its rules faster on this machine than where the goal was set; ours is a few \
      loads, most of which are the counters of the interface and the rule, on lines of their CPU.",
    ),
    (
        "denied flood",
        "What is told costs a look at the window of each stream, on lines of their CPU: two to five \
      nanoseconds on a quiet machine, more on one whose caches other guests use.",
    ),
    ("TCP stream", "Both ends and the firewall share two CPUs here, and every packet crosses the program twice."),
    (
        "TCP connections",
        "A connection is a new flow, which writes two tables and their quotas, and both ends share two \
      CPUs with it.",
    ),
    ("99th percentile", "A change is on the disk before it is answered, and the disk is shared with other machines."),
    (
        "established",
        "The flow's entry is found by the kernel's hash table, as the least program finds its own; on top \
      come the interface's record, the counters, and the TCP state.",
    ),
];

fn is_of(figure: &Figure, part: &str) -> bool {
    figure.name.contains(part) || figure.against.as_ref().is_some_and(|peer| peer.contains(part))
}

/// Functions that are named of each packet.
const NAMED: usize = 9;

/// Writes the document and its plots into a directory.
///
/// # Errors
/// What cannot be written.
pub fn write(dir: &Path, figures: &[Figure], curves: &[Curve], profiles: &[Profile], quick: bool) -> Result<()> {
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut text = format!("{}\n{}\n", HEAD, machine());
    if quick {
        text += "Measured with `--quick`: fewer rounds, wider spread.\n\n";
    }
    text += "## Figures\n\n";
    text += &markdown(figures);
    let short: Vec<&Figure> = figures.iter().filter(|f| f.met == Some(false)).collect();
    text +=
        &format!("\n{} goals met, {} short.\n", figures.iter().filter(|f| f.met == Some(true)).count(), short.len());
    for figure in short {
        let Some(goal) = &figure.goal else { continue };
        let (value, unit) = (short_number(figure.value), figure.unit);
        text += &match (figure.ratio, &figure.against) {
            (Some(ratio), Some(peer)) => {
                format!("\n- *{}* beside *{peer}*: {ratio:.2} where the goal is {goal}.", figure.name)
            }
            _ => format!("\n- *{}*: {value} {unit} where the goal is {goal}.", figure.name),
        };
        if let Some((_, why)) = WHY.iter().find(|(part, _)| is_of(figure, part)) {
            text += &format!(" {why}");
        }
    }
    text += "\n\n## Where the time goes\n\n";
    text += SAMPLED;
    for profile in profiles {
        text += &format!("\n| {}: {:.0} ns | share | ns |\n|---|---:|---:|\n", profile.title, profile.nanoseconds);
        for (place, share) in profile.functions.iter().take(NAMED) {
            text += &format!("| {place} | {:.1} % | {:.1} |\n", share * 100.0, share * profile.nanoseconds);
        }
    }
    text += "\n## Cost as things grow\n";
    let mut plots: Vec<&'static str> = curves.iter().map(|c| c.plot).collect();
    plots.dedup();
    for plot in plots {
        let lines: Vec<&Curve> = curves.iter().filter(|c| c.plot == plot).collect();
        let file = format!("{}.svg", plot.replace([' ', ','], "-").replace("--", "-"));
        write(&file, &svg(plot, &lines))?;
        text += &format!("\n![{plot}]({file})\n\n");
        text += &table(&lines);
    }
    text += NOTES;
    write("benchmarks.md", &text)
}

/// The same numbers for those who do not see the plot.
fn table(curves: &[&Curve]) -> String {
    let Some(first) = curves.first() else { return String::new() };
    let mut text = format!("| {} |", first.over);
    let numbers: std::collections::BTreeSet<u64> =
        curves.iter().flat_map(|c| c.points.iter().map(|p| p.0 as u64)).collect();
    for number in &numbers {
        text += &format!(" {number} |");
    }
    text += &format!("\n|---|{}\n", "---:|".repeat(numbers.len()));
    for curve in curves {
        text += &format!("| {}, {} |", curve.name, curve.unit);
        for number in &numbers {
            let point = curve.points.iter().find(|p| p.0 as u64 == *number);
            text += &point.map_or(" |".to_owned(), |p| format!(" {} |", crate::figures::short(p.1)));
        }
        text += "\n";
    }
    text
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    let cpus = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Linux {}, {cpus} CPUs ({}).\n", kernel.trim(), model.trim_start_matches(['\t', ' ', ':']))
}

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench --docs`; `cargo xtask bench` prints the same table. Each figure stands beside its
peers of the same run: all contestants run once a round, in turn, on one CPU, and a ratio is the median of the ratios of all rounds.
*Beyond empty* means that what an empty program costs at the same hook has been taken off.
";

const SAMPLED: &str =
    "Test runs under the kernel's clock interrupts, `cargo xtask bench --profile`, which also tells the lines. What an
empty program costs is in it (`bpf_test_run` and its helpers), and of a denied packet the program that varies the
sender. Hashing and comparing the key is the kernel's hash table, which the minimal program asks, too.
";

const NOTES: &str = "
## How to read it

- *Established* and *new flow* are `BPF_PROG_TEST_RUN` of the whole program, *live XDP* sends real frames
  (`BPF_F_TEST_XDP_LIVE_FRAMES`), whose making and freeing is in both numbers of a ratio.
- *65,536 senders*: a program in front writes another source address into each packet. It costs the same for all.
- The nftables contestants drop the same frames in the input chain of a namespace, with conntrack: one has a line
  for each rule (`ip saddr … tcp dport … accept`), the other one line and a set of protocol, prefix and port.
- Nothing shared between CPUs is written for a packet of an established flow, but the time of its last packet, eight
  times a second, and in the flow's own entry: counters are per CPU, tables and policies are only read. A denied
  packet writes its CPU's own counters. A new flow writes its table entry and, once, a bit of the filter. A confirmed
  one is counted, with the other flows of its table, interface and remote, in words that all CPUs share: once a flow.
- *Prefixes of a list*: what the compiler takes. IPv4 prefixes lie in a multi-bit table (16, 8 and 8 bits) of plain
  loads as long as it fits; IPv6 hosts in a hash, prefixes in the kernel's trie, unless they are so few that a list is
  faster.
- *SYN floods*: each SYN comes from another sender, and the server answers it; what is established sends on, and
  connections begin whose peers answer after 100,000 packets of the flood. Ours is asked by test runs, nf_conntrack by
  frames through a router; it has as many entries as the kernel gave it, which only the machine itself can change.
";
