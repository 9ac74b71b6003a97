//! What all slots share: the program's configuration, the quotas of flows, how many there are
//! and which may be; as they were written, and beside them what the kernel holds.

use std::io;

use sg_common::{generation::Config, quota::Quotas};

use super::Engine;
use crate::dataplane::{
    clock::possible_cpus,
    filter,
    quotas::{self, Counts, Settings, ledger::Ledger},
};

/// A configuration as it was written, with the clock of the one that is there: tests move it
/// in daemons that know nothing of that, and nothing else ever writes it.
fn expected(written: Config, there: &Config) -> Config {
    Config { time_offset: there.time_offset, ..written }
}

impl Engine {
    /// Renews the filter of flows, see [`filter::renew`].
    ///
    /// # Errors
    /// As there.
    pub fn renew_filter(&mut self) -> io::Result<()> {
        if let Some(half) = filter::renew(&self.object.maps)? {
            self.config.filter = half;
            // It was just made of all flows.
            self.filter = Some(filter::look(&self.object.maps, half)?);
        }
        Ok(())
    }

    /// Makes the quotas of flows what the settings say for the devices there are.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn share_out(&mut self, settings: &Settings) -> io::Result<()> {
        let wanted = quotas::wanted(&self.object.maps, settings, self.bound.len(), self.quotas.map(|q| q.seed))?;
        // What is there is looked at elsewhere, where it can be said that it differs.
        if self.quotas != Some(wanted) {
            self.object.maps.quotas.update(&0, &wanted)?;
            self.quotas = Some(wanted);
        }
        Ok(())
    }

    /// Counts the flows of the tables, see [`quotas::recount`].
    ///
    /// # Errors
    /// As there.
    pub fn recount(&mut self) -> io::Result<()> {
        let slots = self.bound.values().map(|b| (b.generation.zone, b.slot)).collect();
        self.ledger.wrote(&quotas::recount(&self.object.maps, &slots)?);
        Ok(())
    }

    /// Looks at the counts of flows, and at the filter of those that may exist; what differs is
    /// said, and made what it should be.
    pub(super) fn compare_flows(&mut self) -> io::Result<Vec<&'static str>> {
        let mut found = Vec::new();
        let (counts, cpus) = (Counts::open(&self.object.maps)?, possible_cpus());
        if !self.ledger.agrees(counts.sums(), cpus) {
            self.recount()?;
            self.ledger = Ledger::default();
            self.ledger.agrees(counts.sums(), cpus);
            found.push("the table of flows' counts");
        }
        if !filter::is_whole(&self.object.maps, self.config.filter, &mut self.filter)? {
            found.push("the filter of flows");
        }
        Ok(found)
    }

    /// Looks at both settings; what differs is said, and written as it was.
    pub(super) fn compare_settings(&self) -> io::Result<Vec<&'static str>> {
        let (maps, mut found) = (&self.object.maps, Vec::new());
        let there = maps.config.get(&0)?.unwrap_or(self.config);
        let config = expected(self.config, &there);
        if there != config {
            maps.config.update(&0, &config)?;
            found.push("the program's configuration");
        }
        if let Some(quotas) = &self.quotas
            && maps.quotas.get(&0)?.as_ref() != Some::<&Quotas>(quotas)
        {
            maps.quotas.update(&0, quotas)?;
            found.push("the table of flows' quotas");
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clock_may_be_another() {
        let written = Config { abi: 3, hz: 250, time_offset: 0, events: 1, filter: 0 };
        let moved = Config { time_offset: 9, ..written };
        assert_eq!(expected(written, &moved), moved);
        for there in [
            Config { abi: 2, ..moved },
            Config { hz: 1000, ..moved },
            Config { events: 0, ..moved },
            Config { filter: 2, ..moved },
        ] {
            assert_eq!(expected(written, &there), moved);
        }
    }
}
