//! The kernel program under one policy, with flows of its own, in the time of a capture.

use std::time::Instant;

use crate::{
    dataplane::{
        flows,
        probe::{Probe, ProbeError, entry_of, outcome},
    },
    effective::{self, Origin},
    explain::Answer,
    model::{Direction, Instance, Model, Side, Verdict},
};

const NANOSECONDS: u64 = 1_000_000_000;
/// The longest time that passes between two packets: every flow is over by then, and the
/// program's clock, which goes round, stays within half of its way.
const LONGEST_PAUSE: u64 = 86_400 * NANOSECONDS;
/// How often, in the time of the capture, flows that are over are taken out.
const SWEEP: u64 = 60 * NANOSECONDS;

/// The program's clock, set to the time of a capture. What time the capture takes to be read
/// does not count.
#[derive(Debug)]
pub struct Pace {
    hz: u32,
    begun: Instant,
    last: Option<u64>,
    elapsed: u64,
    swept: u64,
}

impl Pace {
    /// For a kernel of so many ticks a second.
    pub fn new(hz: u32) -> Self {
        Self { hz, begun: Instant::now(), last: None, elapsed: 0, swept: 0 }
    }

    /// Ticks to be added to the clock so that it shows a packet's time. Time never goes back.
    pub fn offset(&mut self, at: u64) -> u32 {
        let real = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let elapsed = self.passes(at);
        self.ticks(elapsed).wrapping_sub(self.ticks(real))
    }

    /// Nanoseconds of the capture at a packet.
    fn passes(&mut self, at: u64) -> u64 {
        let last = *self.last.get_or_insert(at);
        self.elapsed = self.elapsed.saturating_add(at.saturating_sub(last).min(LONGEST_PAUSE));
        self.last = Some(last.max(at));
        self.elapsed
    }

    fn ticks(&self, nanoseconds: u64) -> u32 {
        (u128::from(nanoseconds) * u128::from(self.hz) / u128::from(NANOSECONDS)) as u32
    }

    /// Whether it is time to take out flows that are over.
    pub fn sweeps(&mut self) -> bool {
        let due = self.elapsed - self.swept >= SWEEP;
        if due {
            self.swept = self.elapsed;
        }
        due
    }
}

/// One of the two policies.
pub struct Judge {
    seat: Option<Seat>,
    offset: u32,
}

struct Seat {
    probe: Probe,
    side: Side,
    model: Model,
    origins: Vec<Origin>,
}

/// What one of them says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Accept or drop.
    pub verdict: Verdict,
    /// As `explain` answers.
    pub answer: Answer,
    /// What decided, for people.
    pub rule: String,
}

impl Judge {
    /// A policy that does not name the device: what comes is let in.
    pub fn unprotected() -> Self {
        Self { seat: None, offset: 0 }
    }

    /// The policy of an instance.
    ///
    /// # Errors
    /// Not root, no program, a policy that does not fit.
    pub fn of(model: &Model, instances: &[Instance], index: usize) -> Result<Self, ProbeError> {
        let mut probe = Probe::load()?;
        let origins = probe.prepare(model, instances, index)?;
        let side = model.interfaces[instances[index].interface].side;
        Ok(Self { seat: Some(Seat { probe, side, model: model.clone(), origins }), offset: 0 })
    }

    /// Kernel ticks a second, if the kernel is asked at all.
    pub fn ticks_per_second(&self) -> Option<u32> {
        self.seat.as_ref().map(|s| s.probe.ticks_per_second())
    }

    /// Sets the clock; with `sweep`, takes out flows that are over by then.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clock(&mut self, offset: u32, sweep: bool) -> Result<(), ProbeError> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        if offset != self.offset {
            seat.probe.clock(offset)?;
            self.offset = offset;
        }
        if sweep {
            let now = seat.probe.now()?.wrapping_add(offset);
            let hz = seat.probe.ticks_per_second();
            flows::sweep(seat.probe.maps(), now, hz)
                .map_err(|error| ProbeError::Kernel { what: "take out flows that are over", error })?;
        }
        Ok(())
    }

    /// Judges a frame.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn judge(&mut self, direction: Direction, frame: &[u8]) -> Result<Judged, ProbeError> {
        let Some(seat) = &mut self.seat else {
            let answer = Answer::Judged {
                verdict: Verdict::Accept.name().into(),
                reason: "unprotected".into(),
                security_group: None,
                rule: None,
                priority: None,
            };
            return Ok(Judged { verdict: Verdict::Accept, answer, rule: "not protected".into() });
        };
        let (verdict, event) = seat.probe.run(entry_of(seat.side, direction, false), frame)?;
        let outcome = outcome(verdict, &event, &seat.origins)?;
        let origin = match (outcome.group, outcome.rule) {
            (Some(group), Some(rule)) => Some(Origin::Rule(group, rule)),
            (Some(group), None) => Some(Origin::IntraGroup(group)),
            _ => None,
        };
        let reason = outcome.reason.name();
        let rule = origin.map_or_else(|| format!("({reason})"), |o| effective::name(&seat.model, o));
        Ok(Judged { verdict, answer: Answer::of(&seat.model, &outcome), rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_that_of_the_capture_and_never_goes_back() {
        let mut pace = Pace::new(250);
        let second = NANOSECONDS;
        let mut at = |at: u64| pace.passes(at);
        assert_eq!(at(1000 * second), 0);
        assert_eq!(at(1001 * second), second);
        // Packets of several queues may stand in a wrong order.
        assert_eq!(at(1000 * second), second);
        assert_eq!(at(1003 * second), 3 * second);
        // A pause of a year counts as a day.
        assert_eq!(at(31_536_000 * second), 3 * second + LONGEST_PAUSE);
        assert_eq!(at(u64::MAX), 3 * second + 2 * LONGEST_PAUSE);
        assert_eq!(pace.ticks(3 * second + second / 2), 875);
        assert!(pace.sweeps() && !pace.sweeps());
    }
}
