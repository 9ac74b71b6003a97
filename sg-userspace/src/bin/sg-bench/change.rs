//! What a change costs until it is in force, beside `nft -f` of the same.

use std::time::Instant;

use anyhow::Result;
use sg_common::generation::Generation;
use sg_userspace::{
    dataplane::probe::{Probe, record},
    testbed::Net,
};

use crate::{
    Scale,
    figures::{Bound, Figure},
    measure::{Contestant, rounds},
    nft,
    peers::Peers,
    policy::{document, model, tables},
};

/// Rules of the largest policy.
pub const RULES: usize = 1000;
/// Members of the group that one of them names.
pub const MEMBERS: usize = 6000;

/// Milliseconds that something takes.
fn timed(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// A rebuild of the largest policy: read, compiled, written, flipped to.
pub fn rebuild(_: &Peers, scale: &Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let text = document(RULES, MEMBERS, "eth0");
    let probe = Probe::load()?;
    let peer = Net::new("nft")?;
    let ruleset = nft::with_members(RULES, MEMBERS);
    nft::load(&peer, &ruleset)?;
    let validated = model(&text)?;
    let put = |model: &sg_userspace::model::Model| -> Result<()> {
        let (_, tables) = tables(model)?;
        probe.install(0, &tables)?;
        probe.enforce(&Generation { policy_class: tables.size_class() as u32, ..record() })?;
        Ok(())
    };
    let samples = rounds(
        scale.rounds.min(9),
        &mut [
            Contestant::new("rebuild", || timed(|| put(&validated))),
            Contestant::new("compile", || timed(|| tables(&validated).map(drop))),
            Contestant::new("document", || timed(|| put(&model(&text)?))),
            Contestant::new("nft -f", || timed(|| nft::load(&peer, &ruleset))),
        ],
    )?;
    let name = format!("a change of {RULES} rules with {MEMBERS} members in force");
    figures.push(Figure::new("change", name, "ms", &samples[0]).goal(Bound::Most(60.0), Some(Bound::Most(25.0))));
    figures.push(Figure::new("change", "of which: compiled", "ms", &samples[1]));
    figures.push(Figure::new("change", "the same, with the document read and checked", "ms", &samples[2]).faster_than(
        "nft -f of the same policy",
        &samples[2],
        &samples[3],
    ));
    Ok(())
}
