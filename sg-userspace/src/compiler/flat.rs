//! Lays out the flat value of a policy, see [`sg_common::policy`].

use std::collections::HashMap;

use sg_common::{
    limits::BITVEC_WORDS,
    policy::{CLASS_SIZES, DirectionHeader, MAGIC, MODE_BITVEC, MODE_MATRIX, PolicyHeader, RuleRow},
};

use super::{CompileError, Side, bits::Bits, list6::Entry};

struct Layout {
    bytes: Vec<u8>,
}

impl Layout {
    /// Appends, aligned to eight bytes; returns the offset.
    fn put(&mut self, bytes: impl IntoIterator<Item = u8>) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u32;
        self.bytes.extend(bytes);
        at
    }
    fn put_u16(&mut self, values: impl IntoIterator<Item = u16>) -> u32 {
        self.put(values.into_iter().flat_map(u16::to_ne_bytes))
    }
    fn put_bits(&mut self, sets: &[Bits]) -> u32 {
        self.put(sets.iter().flat_map(|b| b.0).flat_map(u64::to_ne_bytes))
    }
}

/// Pages of 256 classes, equal ones stored once.
#[derive(Default)]
struct Pages {
    numbers: HashMap<Vec<u16>, u16>,
    all: Vec<Vec<u16>>,
}

impl Pages {
    /// Page numbers of a port table given as intervals.
    fn table(&mut self, intervals: &[(u16, u16)]) -> Vec<u16> {
        let mut classes = Vec::with_capacity(65_536);
        for (n, &(first, class)) in intervals.iter().enumerate() {
            let end = intervals.get(n + 1).map_or(65_536, |next| usize::from(next.0));
            classes.resize(usize::from(first).max(classes.len()), class);
            classes.resize(end, class);
        }
        classes.resize(65_536, 0);
        classes.chunks(256).map(|page| self.number(page)).collect()
    }
    fn number(&mut self, page: &[u16]) -> u16 {
        if let Some(&n) = self.numbers.get(page) {
            return n;
        }
        let n = self.all.len() as u16;
        self.numbers.insert(page.to_vec(), n);
        self.all.push(page.to_vec());
        n
    }
}

/// Rows by class pair, with equal columns merged: the matrix, its columns, and
/// the column of each service class.
fn matrix(side: &Side) -> (Vec<u16>, usize, Vec<u16>) {
    let column = |service: &Bits| -> Vec<u16> {
        side.remotes.iter().map(|r| r.first_common(service).map_or(0, |i| i as u16 + 1)).collect()
    };
    let mut numbers: HashMap<Vec<u16>, u16> = HashMap::new();
    let mut columns: Vec<Vec<u16>> = Vec::new();
    let mut of_class = Vec::new();
    for service in &side.services.classes {
        let column = column(service);
        let next = columns.len() as u16;
        let number = *numbers.entry(column.clone()).or_insert(next);
        if number == next {
            columns.push(column);
        }
        of_class.push(number);
    }
    let cells = (0..side.remotes.len()).flat_map(|r| columns.iter().map(move |c| c[r])).collect();
    (cells, columns.len(), of_class)
}

fn bytes_of<T: Copy>(value: &T) -> Vec<u8> {
    // SAFETY: called with `repr(C)` types without padding only, see below.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }.to_vec()
}

/// Sets the header's flags.
pub(super) fn with_flags(mut flat: Vec<u8>, flags: u32) -> Vec<u8> {
    let at = std::mem::offset_of!(PolicyHeader, flags);
    flat[at..at + 4].copy_from_slice(&flags.to_ne_bytes());
    flat
}

fn word(flat: &[u8], at: usize) -> Option<u32> {
    flat.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// Offset of a direction's rule table.
pub(super) fn rows(flat: &[u8], side: usize) -> usize {
    let head = std::mem::offset_of!(PolicyHeader, direction) + side * size_of::<DirectionHeader>();
    word(flat, head + std::mem::offset_of!(DirectionHeader, rules)).unwrap_or(u32::MAX) as usize
}

/// The counter that a row of a rule table names.
pub(super) fn counter(flat: &[u8], rows: usize, row: usize) -> Option<u32> {
    word(flat, rows + row * size_of::<RuleRow>() + std::mem::offset_of!(RuleRow, counter))
}

/// Lays out both directions.
pub(super) fn lay_out(
    sides: &[Side],
    flags: u32,
    tables4: [&[u16]; 2],
    lists6: Option<&[Vec<Entry>; 2]>,
) -> Result<Vec<u8>, CompileError> {
    let mut layout = Layout { bytes: vec![0; size_of::<PolicyHeader>()] };
    let mut header = PolicyHeader { magic: MAGIC, flags, ..PolicyHeader::default() };
    let mut pages = Pages::default();
    let none = Default::default();
    let lists6 = lists6.unwrap_or(&none);
    for ((side, (table4, list6)), to) in sides.iter().zip(tables4.into_iter().zip(lists6)).zip(&mut header.direction) {
        for (what, classes) in
            [("services", side.services.classes.len()), ("source ports", side.services.source_classes.len())]
        {
            if classes > usize::from(u16::MAX) {
                return Err(CompileError::Classes { classes, what });
            }
        }
        let mut head = DirectionHeader { mode: MODE_MATRIX, ..DirectionHeader::default() };
        // In matrix mode a service class is replaced by its column.
        let mut column_of: Vec<u16> = (0..=side.services.classes.len() as u16).collect();
        if side.bitvec {
            head.mode = MODE_BITVEC;
            head.words = side.entries.len().div_ceil(64).min(BITVEC_WORDS) as u32;
            head.bits_remote = layout.put_bits(&side.remotes);
            head.bits_service = layout.put_bits(&side.services.classes);
            head.bits_local = layout.put_bits(&side.locals);
            head.bits_source = layout.put_bits(&side.services.source_classes);
        } else {
            let (cells, columns, of_class) = matrix(side);
            column_of = of_class;
            head.columns = columns as u32;
            head.matrix = layout.put_u16(cells);
        }
        let renumber = |intervals: &[(u16, u16)]| -> Vec<(u16, u16)> {
            intervals.iter().map(|&(first, class)| (first, column_of[usize::from(class)])).collect()
        };
        head.protos = layout.put_u16(side.services.protocols.iter().map(|&c| column_of[usize::from(c)]));
        head.tcp = layout.put_u16(pages.table(&renumber(&side.services.tcp)));
        head.udp = layout.put_u16(pages.table(&renumber(&side.services.udp)));
        if side.bitvec {
            head.source_ports = layout.put_u16(pages.table(&side.services.source));
        }
        head.table4 = layout.put_u16(table4.iter().copied());
        let list6 = [list6.len() as u64].into_iter().chain(list6.iter().flatten().copied());
        head.list6 = layout.put(list6.flat_map(u64::to_ne_bytes));
        head.rules = layout.put(side.rows.iter().flat_map(bytes_of::<RuleRow>));
        *to = head;
    }
    let at = layout.put_u16(pages.all.iter().flatten().copied());
    for head in &mut header.direction {
        head.pages = at;
    }
    header.size = layout.bytes.len() as u32;
    if layout.bytes.len() > CLASS_SIZES[2] as usize {
        return Err(CompileError::Size { bytes: layout.bytes.len() });
    }
    layout.bytes[..size_of::<PolicyHeader>()].copy_from_slice(&bytes_of(&header));
    Ok(layout.bytes)
}
