//! Who may hold how many confirmed flows, and who holds how many.
//!
//! The main tables never evict, so room in them is shared out: an interface and
//! a remote may each hold so many flows of a family, and the last part of a table
//! is kept for remotes of the administrator's. Whoever is over stays in the tables
//! of unconfirmed flows, and is served from there.
//!
//! The program adds to [`Usage`] where a flow is confirmed, and nowhere else.
//! The daemon counts the tables and sets right what is written there. In between
//! the counts are too high by the flows that have ended since, and never too low.

use crate::{addr::Addr, limits::MAX_SLOTS};

/// Prefixes of management remotes.
pub const MANAGEMENT: usize = 16;
/// Cells of one row of remotes.
pub const CELLS: usize = 16_384;
/// Rows of remotes.
pub const ROWS: usize = 2;
/// One part in so many of a table is kept for management remotes.
pub const RESERVE: u32 = 16;

/// A prefix of either family.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its first address.
    pub first: Addr,
    /// Bits that count, all of the mapping's for IPv4.
    pub mask: Addr,
    /// 1 for IPv4.
    pub v4: u32,
}

impl Prefix {
    /// Covers nothing.
    pub const NONE: Self = Self { first: Addr([0xff; 16]), mask: Addr([0; 16]), v4: 2 };

    /// Whether an address is inside.
    #[inline(always)]
    pub fn covers(&self, addr: &Addr, v4: bool) -> bool {
        let ([a, b], [x, y], [m, n]) = (addr.words(), self.first.words(), self.mask.words());
        ((a ^ x) & m) | ((b ^ y) & n) | u64::from(self.v4 ^ v4 as u32) == 0
    }
}

/// The bounds, each for one family; 0 is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Flows in the main table, by family, from which on only management remotes get in.
    pub table: [u32; 2],
    /// Flows of one interface.
    pub interface: u32,
    /// Flows that one remote may hold of one interface.
    pub remote: u32,
    /// Makes it hard to guess which remotes share a cell.
    pub seed: u32,
    /// Remotes that no quota binds.
    pub management: [Prefix; MANAGEMENT],
}

impl Quotas {
    /// No bounds at all.
    pub const NONE: Self =
        Self { table: [0; 2], interface: 0, remote: 0, seed: 0, management: [Prefix::NONE; MANAGEMENT] };

    /// Whether an address is a management remote.
    #[inline(always)]
    pub fn is_management(&self, addr: &Addr, v4: bool) -> bool {
        let mut i = 0;
        while i < MANAGEMENT {
            if self.management[i].covers(addr, v4) {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// Confirmed flows, counted. The family is 0 for IPv4, 1 for IPv6.
#[repr(C)]
pub struct Usage {
    /// By interface and remote: each has a cell in both rows, which others may
    /// share; the lesser one is nearer the truth. Nobody can push a count out.
    pub remotes: [[u64; CELLS]; ROWS],
    /// By slot and family.
    pub interfaces: [[u64; 2]; MAX_SLOTS as usize],
    /// By family.
    pub tables: [u64; 2],
}

/// A part of [`Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first word.
    pub first: usize,
    /// Its words, a power of two.
    pub words: usize,
}

/// Word: row, then cell.
pub const REMOTES: Part = Part { first: 0, words: ROWS * CELLS };
/// Word: slot, then family.
pub const INTERFACES: Part = Part { first: REMOTES.words, words: 2 * MAX_SLOTS as usize };
/// Word: family.
pub const TABLES: Part = Part { first: INTERFACES.first + INTERFACES.words, words: 2 };

/// An odd constant of which half the bits are set (the golden ratio's).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Cells of a remote, by row. Of an IPv6 address the first 64 bits count: whoever
/// has a network has every address in it.
#[inline(always)]
pub const fn cells(zone: u32, remote: &Addr, v4: bool, seed: u32) -> [u32; ROWS] {
    let [high, low] = remote.words();
    let who = if v4 { low } else { high };
    let h = (who ^ (seed as u64) << 32).wrapping_mul(MIX) ^ zone as u64 ^ (v4 as u64) << 32;
    let h = (h ^ h >> 29).wrapping_mul(MIX);
    let h = (h ^ h >> 32).wrapping_mul(MIX);
    [(h >> 50) as u32, (h >> 36) as u32 & (CELLS as u32 - 1)]
}

const _: () = {
    assert!(size_of::<Prefix>() == 36 && align_of::<Prefix>() == 4);
    assert!(size_of::<Quotas>() == 20 + 36 * MANAGEMENT);
    assert!(size_of::<Usage>() == 8 * (TABLES.first + TABLES.words));
    assert!(core::mem::offset_of!(Usage, interfaces) == 8 * INTERFACES.first);
    assert!(core::mem::offset_of!(Usage, tables) == 8 * TABLES.first);
    assert!(REMOTES.words.is_power_of_two() && INTERFACES.words.is_power_of_two() && CELLS == 1 << (64 - 50));
};
