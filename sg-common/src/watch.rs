//! Who wants to hear of which packets, and how many: the settings of what leaves
//! through the ring buffer, and its accounts.
//!
//! A stream is one listener of the kernel's: people who watch, the daemon that
//! judges samples anew, the log of flows. Each has so many events a CPU may send it
//! in a window of time; what goes beyond is counted and costs nothing else.

use crate::limits::MAX_SLOTS;

/// Streams.
pub const STREAMS: usize = 3;

/// Numbers of streams.
pub mod stream {
    /// People who watch.
    pub const WATCH: usize = 0;
    /// Verdicts that the daemon judges once more.
    pub const SAMPLE: usize = 1;
    /// Denied packets for the log of flows.
    pub const LOG: usize = 2;
}

/// [`Tell::protocol`] of one who wants all.
pub const ANY_PROTOCOL: u32 = 256;

/// What is told to whom.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tell {
    /// Network of one of the ends, as [`crate::addr::Addr::words`]; for [`stream::WATCH`], like
    /// all but [`Tell::reasons`] and [`Tell::tokens`].
    pub network: [u64; 2],
    /// Its mask; zero: whatever address.
    pub mask: [u64; 2],
    /// By stream and verdict: bits by number of the reason.
    pub reasons: [[u64; 2]; STREAMS],
    /// Bits by slot.
    pub slots: [u64; MAX_SLOTS as usize / 64],
    /// Jiffies of a window.
    pub window: u32,
    /// Events of a CPU in a window, by stream; 0: none, and none is counted as left out.
    pub tokens: [u32; STREAMS],
    /// One of so many is told; 0 and 1: each.
    pub every: u32,
    /// Counter id of the rule; 0: whatever decided.
    pub rule: u32,
    /// A protocol number, or [`ANY_PROTOCOL`].
    pub protocol: u32,
    /// First and last port of one of the ends.
    pub ports: [u16; 2],
    /// Another one with each change: a window that began under other settings is over.
    pub version: u32,
    /// Zero.
    pub pad: u32,
}

impl Tell {
    /// Nothing to nobody.
    pub const NOTHING: Self = Self {
        network: [0; 2],
        mask: [0; 2],
        reasons: [[0; 2]; STREAMS],
        slots: [!0; MAX_SLOTS as usize / 64],
        window: 1,
        tokens: [0; STREAMS],
        every: 0,
        rule: 0,
        protocol: ANY_PROTOCOL,
        ports: [0, u16::MAX],
        version: 0,
        pad: 0,
    };
}

/// What a CPU has told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Jiffies when its window began.
    pub start: u32,
    /// Wanted by [`stream::WATCH`] since the last that was told.
    pub turn: u32,
    /// Events left in the window, by stream.
    pub left: [u32; STREAMS],
    /// [`Tell::version`] of its window.
    pub version: u32,
    /// Events told, by stream.
    pub told: [u64; STREAMS],
    /// Wanted, but beyond what a window holds, or beyond the ring buffer.
    pub left_out: [u64; STREAMS],
    /// Wanted by [`stream::WATCH`], but not its turn ([`Tell::every`]).
    pub passed_over: u64,
    /// Of a program that only answers ([`crate::maps::DRY`]): [`ANSWERED`], the reason from bit 40 on,
    /// the verdict from bit 32 on, and the counter id of the rule.
    pub answer: u64,
    /// Accepted packets of flows that there was no room to count (see [`crate::account`]).
    pub unaccounted: u64,
    /// Epoch of the generation that answered.
    pub epoch: u32,
    /// Zero.
    pub pad: u32,
}

/// Bit of [`Told::answer`]: it is one.
pub const ANSWERED: u64 = 1 << 63;

const _: () = {
    assert!(size_of::<Tell>() == 248);
    assert!(size_of::<Told>() == 104);
};
