//! Lays out the flat value of a policy, see [`sg_common::policy`].

use std::collections::HashMap;

use sg_common::{
    limits::{BITVEC_WORDS, MAX_MATRIX_CELLS},
    policy::{
        CLASS_SIZES, DirectionHeader, MAGIC, MAX_LIST6, MODE_BITVEC, MODE_MATRIX, PolicyHeader, RuleRow, TABLE4_NODE,
    },
};

use super::{CompileError, bits::Bits, list6, list6::Entry, multibit, services::Services};

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

/// One direction before it is laid out.
#[derive(Debug)]
pub(super) struct Side {
    pub rows: Vec<RuleRow>,
    pub remotes: Vec<Bits>,
    pub services: Services,
    pub locals: Vec<Bits>,
    pub bitvec: bool,
    /// Entries that name a set which changes.
    pub dynamic: Vec<usize>,
    /// Remote IPv4 addresses, if they have a table.
    pub table4: Option<Vec<u16>>,
    /// Remote IPv6 prefixes, if they have a list.
    pub list6: Option<Vec<Entry>>,
}

/// Where the rows of remote classes stand, and how one is made.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Byte offset of row 0.
    at: usize,
    /// Bytes of a row.
    stride: usize,
    /// Rows that there is room for.
    pub room: usize,
    /// Without a matrix a row is the set itself.
    columns: Option<Columns>,
}

/// Columns of a matrix.
#[derive(Clone, Debug)]
struct Columns {
    services: Vec<Bits>,
    /// Column by service class.
    of_class: Vec<u16>,
    count: usize,
}

impl Rows {
    /// Byte offset and bytes of a class's row. `None` when services of one column
    /// would have to part.
    pub fn row(&self, class: u16, set: &Bits) -> Option<(usize, Vec<u8>)> {
        let at = self.at + usize::from(class) * self.stride;
        let Some(columns) = &self.columns else {
            return Some((at, set.0.iter().flat_map(|w| w.to_ne_bytes()).collect()));
        };
        let mut cells = vec![None; columns.count];
        let set = Sparse::new(set);
        for (service, &column) in columns.services.iter().zip(&columns.of_class) {
            let rule = set.first_common(service);
            if *cells[usize::from(column)].get_or_insert(rule) != rule {
                return None;
            }
        }
        Some((at, cells.into_iter().flat_map(|c| c.unwrap_or(0).to_ne_bytes()).collect()))
    }
}

/// Where a list of IPv6 prefixes may stand: the header names one of these places.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// Byte offset of the header's word.
    pub head: usize,
    /// Byte offset of the first place.
    pub at: usize,
    /// Which place is named.
    pub current: usize,
    /// Whether there is more than one.
    pub spare: bool,
    /// How many grace periods must have passed until a place may be written to.
    pub left: [u64; LISTS],
}

/// Places of a list.
pub(super) const LISTS: usize = 4;
/// Bytes of a place.
pub(super) const LIST_BYTES: usize = 8 + MAX_LIST6 * size_of::<list6::Entry>();

/// What a change of addresses writes to.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub rows: Rows,
    pub table4: multibit::Place,
    pub lists: Lists,
}

/// The words of a set that are not zero.
struct Sparse(Vec<(usize, u64)>);

impl Sparse {
    fn new(set: &Bits) -> Self {
        Self(set.0.iter().copied().enumerate().filter(|(_, word)| *word != 0).collect())
    }

    /// Row of the first rule that both sets have; 0 for none.
    fn first_common(&self, other: &Bits) -> u16 {
        let mut common = self.0.iter().map(|&(w, word)| (w, word & other.0[w]));
        common.find(|(_, word)| *word != 0).map_or(0, |(w, word)| (w * 64) as u16 + word.trailing_zeros() as u16 + 1)
    }
}

/// The matrix by rows, with equal columns merged.
fn matrix(side: &Side) -> (Vec<u16>, Columns) {
    let mut remotes: Vec<Sparse> = side.remotes.iter().map(Sparse::new).collect();
    // A set of addresses that is empty now may not be so later: services that
    // only its rules tell apart have columns of their own.
    remotes.extend(side.dynamic.iter().map(|&entry| Sparse(vec![(entry / 64, 1 << (entry % 64))])));
    let mut numbers: HashMap<Vec<u16>, u16> = HashMap::new();
    let mut columns: Vec<Vec<u16>> = Vec::new();
    let mut of_class = Vec::new();
    for service in &side.services.classes {
        let column: Vec<u16> = remotes.iter().map(|r| r.first_common(service)).collect();
        let next = columns.len() as u16;
        let number = match numbers.get(&column) {
            Some(&number) => number,
            None => {
                numbers.insert(column.clone(), next);
                columns.push(column);
                next
            }
        };
        of_class.push(number);
    }
    let count = columns.len();
    let mut cells = vec![0; side.remotes.len() * count];
    for (c, column) in columns.iter().enumerate() {
        for (r, &cell) in column.iter().take(side.remotes.len()).enumerate() {
            cells[r * count + c] = cell;
        }
    }
    (cells, Columns { services: side.services.classes.clone(), of_class, count })
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

/// Bytes of a list.
pub(super) fn list_bytes(list: &[Entry]) -> Vec<u8> {
    let words = [list.len() as u64].into_iter().chain(list.iter().flatten().copied());
    words.flat_map(u64::to_ne_bytes).collect()
}

/// Spare rows and nodes that a policy is to have at least, if it can change.
const LEAST: usize = 8;
/// Spare rows, and spare nodes, that it has at most.
const MOST: usize = 256;

/// Lays out both directions. With `spare`, what is left of the value's size class
/// is for rows and nodes that come later.
///
/// # Errors
/// It does not fit.
pub(super) fn lay_out(sides: &[Side; 2], spare: bool) -> Result<(Vec<u8>, [Places; 2]), CompileError> {
    let lists = spare;
    let mut layout = Layout { bytes: vec![0; size_of::<PolicyHeader>()] };
    let mut header = PolicyHeader { magic: MAGIC, ..PolicyHeader::default() };
    let mut pages = Pages::default();
    let mut rows = Vec::new();
    for (side, head) in sides.iter().zip(&mut header.direction) {
        for (what, classes) in
            [("services", side.services.classes.len()), ("source ports", side.services.source_classes.len())]
        {
            if classes > usize::from(u16::MAX) {
                return Err(CompileError::Classes { classes, what });
            }
        }
        head.mode = MODE_MATRIX;
        // In matrix mode a service class is replaced by its column.
        let mut column_of: Vec<u16> = (0..=side.services.classes.len() as u16).collect();
        if side.bitvec {
            head.mode = MODE_BITVEC;
            head.words = (side.rows.len() - 1).div_ceil(64).min(BITVEC_WORDS) as u32;
            head.bits_service = layout.put_bits(&side.services.classes);
            head.bits_local = layout.put_bits(&side.locals);
            head.bits_source = layout.put_bits(&side.services.source_classes);
            rows.push((side.remotes.iter().flat_map(|b| b.0).flat_map(u64::to_ne_bytes).collect::<Vec<u8>>(), None));
        } else {
            let (cells, columns) = matrix(side);
            column_of.clone_from(&columns.of_class);
            head.columns = columns.count as u32;
            rows.push((cells.into_iter().flat_map(u16::to_ne_bytes).collect(), Some(columns)));
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
        head.rules = layout.put(side.rows.iter().flat_map(bytes_of::<RuleRow>));
        let list = list_bytes(side.list6.as_deref().unwrap_or_default());
        let places = if side.list6.is_some() && spare { LISTS } else { 1 };
        head.list6 = layout.put(list);
        let end = head.list6 as usize + places * LIST_BYTES;
        layout.bytes.resize(end, 0);
    }
    let at = layout.put_u16(pages.all.iter().flatten().copied());
    for head in &mut header.direction {
        head.pages = at;
    }

    // What may grow comes last, so that all that is left of the value is shared out.
    let stride = |side: &Side, columns: &Option<Columns>| match columns {
        Some(columns) if !side.bitvec => columns.count * 2,
        _ => BITVEC_WORDS * 8,
    };
    let strides = [stride(&sides[0], &rows[0].1), stride(&sides[1], &rows[1].1)];
    let tables: usize = sides.iter().map(|s| s.table4.as_ref().map_or(0, |t| t.len() * 2)).sum();
    let fixed = layout.bytes.len() + rows.iter().map(|(r, _)| r.len()).sum::<usize>() + tables + 4 * 8;
    let node = multibit::FANOUT * 2;
    let least = strides.iter().map(|s| LEAST * (s + node)).sum::<usize>();
    let fits = |bytes: usize| CLASS_SIZES.iter().map(|s| *s as usize).find(|size| bytes <= *size);
    let (size, spare) = match (fits(fixed + least), fits(fixed)) {
        (Some(size), _) if spare => (size, true),
        (_, Some(size)) => (size, false),
        _ => return Err(CompileError::Size { bytes: fixed }),
    };
    let share = if spare { (size - fixed) / 4 } else { 0 };
    let mut places = Vec::new();
    for (i, ((bytes, columns), side)) in rows.into_iter().zip(sides).enumerate() {
        let (count, stride) = (side.remotes.len(), strides[i]);
        let most = if columns.is_some() { (MAX_MATRIX_CELLS * 2 / stride).saturating_sub(count) } else { MOST };
        let more = (share / stride).min(MOST).min(most).min(usize::from(TABLE4_NODE).saturating_sub(count));
        let at = layout.put(bytes) as usize;
        layout.bytes.resize(at + (count + more) * stride, 0);
        let rows = Rows { at, stride, room: count + more, columns };
        let head = &mut header.direction[i];
        if side.bitvec {
            head.bits_remote = at as u32
        } else {
            head.matrix = at as u32
        }

        let nodes = side.table4.as_ref().map_or(0, |t| t.len() / multibit::FANOUT);
        let more = if nodes == 0 { 0 } else { (share / node).min(MOST) };
        let at = layout.put_u16(side.table4.iter().flatten().copied()) as usize;
        layout.bytes.resize(at + (nodes + more) * node, 0);
        head.table4 = at as u32;
        let table4 = multibit::Place { at, nodes, room: nodes + more };

        let direction = std::mem::offset_of!(PolicyHeader, direction) + i * size_of::<DirectionHeader>();
        let lists = Lists {
            head: direction + std::mem::offset_of!(DirectionHeader, list6),
            at: head.list6 as usize,
            spare: side.list6.is_some() && lists,
            ..Lists::default()
        };
        places.push(Places { rows, table4, lists });
    }
    header.size = layout.bytes.len() as u32;
    layout.bytes[..size_of::<PolicyHeader>()].copy_from_slice(&bytes_of(&header));
    match <[Places; 2]>::try_from(places) {
        Ok(places) if layout.bytes.len() <= size => Ok((layout.bytes, places)),
        _ => Err(CompileError::Size { bytes: layout.bytes.len() }),
    }
}
