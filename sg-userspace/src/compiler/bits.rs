//! Sets of rules of one direction, as bit-vectors in order of precedence.

use sg_common::limits::BITVEC_WORDS;

/// A set of rules; bit `i` is entry `i`, the first one that decides first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bits(pub [u64; BITVEC_WORDS]);

impl Bits {
    /// The first `n` rules.
    pub fn first(n: usize) -> Self {
        let mut bits = Self::default();
        for i in 0..n {
            bits.set(i);
        }
        bits
    }
    /// Adds a rule.
    pub fn set(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }
    /// Takes a rule out.
    pub fn clear(&mut self, i: usize) {
        self.0[i / 64] &= !(1 << (i % 64));
    }
    /// The first rule that both sets have.
    pub fn first_common(&self, other: &Self) -> Option<usize> {
        let words = self.0.iter().zip(&other.0).enumerate();
        words.map(|(w, (a, b))| (w, a & b)).find(|(_, v)| *v != 0).map(|(w, v)| w * 64 + v.trailing_zeros() as usize)
    }
}

/// Gives equal sets equal numbers.
#[derive(Debug, Default)]
pub struct Classes {
    numbers: std::collections::HashMap<Bits, u32>,
    /// Sets by number.
    pub sets: Vec<Bits>,
}

impl Classes {
    /// The number of a set.
    pub fn number(&mut self, bits: Bits) -> u32 {
        *self.numbers.entry(bits).or_insert_with(|| {
            self.sets.push(bits);
            self.sets.len() as u32 - 1
        })
    }
}
