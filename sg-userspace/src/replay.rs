//! A capture through the kernel program, under what is in force and under what would
//! be: which of its packets would be decided otherwise.
//!
//! # Layout
//! - [`capture`]: pcap and pcapng, packet by packet
//! - [`frame`]: a packet as the program is given it
//! - [`place`]: which device it is of, and its direction
//! - [`judge`]: the program, once for each policy, in the time of the capture
//! - [`tally`]: packets that are decided otherwise, by flow

pub mod capture;
pub mod frame;
pub mod judge;
pub mod place;
pub mod tally;

use std::{collections::BTreeSet, io::Read};

use sg_common::addr::Addr;
use thiserror::Error;

use self::{
    capture::{CaptureError, Packet},
    judge::{Judge, Pace},
    tally::{Report, Tally},
};
use crate::dataplane::probe::ProbeError;

/// Why a capture could not be judged.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The kernel could not be asked.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// Two policies, and what is to be sent through both.
pub struct Replay {
    now: Judge,
    then: Judge,
    own: BTreeSet<Addr>,
    pace: Pace,
    tally: Tally,
    frame: Vec<u8>,
}

impl Replay {
    /// Of a device with these addresses, under what is in force and under the candidate.
    pub fn new(now: Judge, then: Judge, own: BTreeSet<Addr>) -> Self {
        let hz = now.ticks_per_second().or(then.ticks_per_second()).unwrap_or(1000);
        Self { now, then, own, pace: Pace::new(hz), tally: Tally::default(), frame: Vec::new() }
    }

    /// Sends a whole capture through; `seen` is called after each packet with the number of
    /// packets so far.
    ///
    /// # Errors
    /// It cannot be read, or the kernel not be asked.
    pub fn run(
        mut self,
        name: &str,
        source: impl Read + Send,
        mut seen: impl FnMut(u64),
    ) -> Result<Report, ReplayError> {
        let cut = capture::read(name, source, |packet| {
            self.packet(packet)?;
            seen(packet.number);
            Ok::<(), ReplayError>(())
        })?;
        Ok(self.tally.report(cut))
    }

    fn packet(&mut self, packet: &Packet<'_>) -> Result<(), ProbeError> {
        self.tally.packet(packet.at);
        let placed = frame::prepare(packet, &mut self.frame)
            .and_then(|ready| Ok((place::direction(&ready.parsed, &self.own)?, ready)));
        let (direction, ready) = match placed {
            Ok(placed) => placed,
            Err(skip) => {
                self.tally.skip(skip);
                return Ok(());
            }
        };
        if ready.padded {
            self.tally.padded();
        }
        let offset = self.pace.offset(packet.at);
        let sweep = self.pace.sweeps();
        for judge in [&mut self.now, &mut self.then] {
            judge.clock(offset, sweep)?;
        }
        let now = self.now.judge(direction, &self.frame)?;
        let then = self.then.judge(direction, &self.frame)?;
        self.tally.judged(packet, direction, &ready.parsed, now, then);
        Ok(())
    }
}
