//! Source lines of a loaded program's machine code, from the kernel.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use sg_userspace::dataplane::sys;

const UNKNOWN: &str = "cannot ask for the program's lines";

/// Word offsets into `struct bpf_prog_info`.
mod field {
    pub const JITED_KSYMS_COUNT: usize = 26;
    pub const JITED_LENGTHS_COUNT: usize = 27;
    pub const JITED_KSYMS: usize = 28;
    pub const JITED_LENGTHS: usize = 30;
    pub const BTF_ID: usize = 32;
    pub const LINES_COUNT: usize = 37;
    pub const LINES: usize = 38;
    pub const JITED_LINES: usize = 40;
    pub const JITED_LINES_COUNT: usize = 42;
    pub const LINE_SIZE: usize = 43;
    pub const JITED_LINE_SIZE: usize = 44;
}
const INFO_WORDS: usize = 58;

fn point(words: &mut [u32], at: usize, to: *mut u8) {
    let address = to as u64;
    words[at] = address as u32;
    words[at + 1] = (address >> 32) as u32;
}

/// The strings of a BTF object.
fn strings(id: u32) -> Result<Vec<u8>> {
    let btf = sys::btf_by_id(id).context("the program has no type information")?;
    let mut bytes = vec![0u8; 16 << 20];
    // struct bpf_btf_info: address, size, id, name, its length, whose.
    let mut words = [0u32; 8];
    point(&mut words, 0, bytes.as_mut_ptr());
    words[2] = bytes.len() as u32;
    // SAFETY: the one pointer leads to a buffer of the length beside it.
    unsafe { sys::object_info(btf.as_fd(), &mut words) }.context(UNKNOWN)?;
    bytes.truncate(words[2] as usize);
    let word = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])) as usize;
    let (header, offset, length) = (word(4), word(16), word(20));
    Ok(bytes.get(header + offset..header + offset + length).context("no strings")?.to_vec())
}

fn text(strings: &[u8], at: u32) -> String {
    let rest = strings.get(at as usize..).unwrap_or_default();
    String::from_utf8_lossy(rest.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

/// A program's code: where its functions and lines lie.
pub struct Places {
    /// Start and length of each function.
    functions: Vec<(u64, u64)>,
    /// Address, file and line, in order of address.
    lines: Vec<(u64, String)>,
}

impl Places {
    /// Asks the kernel.
    ///
    /// # Errors
    /// A program without line information, or not compiled.
    pub fn read(program: BorrowedFd<'_>) -> Result<Self> {
        let mut words = [0u32; INFO_WORDS];
        // SAFETY: all zeroes lead nowhere.
        unsafe { sys::object_info(program, &mut words) }.context(UNKNOWN)?;
        let (count, lines) = (words[field::JITED_KSYMS_COUNT] as usize, words[field::LINES_COUNT] as usize);
        ensure!(lines > 0 && words[field::LINE_SIZE] == 16, "the program has no line information");
        let mut starts = vec![0u64; count];
        let mut lengths = vec![0u32; count];
        let mut records = vec![[0u32; 4]; lines];
        let mut addresses = vec![0u64; lines];
        let mut ask = [0u32; INFO_WORDS];
        for (counts, pointer, value, to) in [
            (field::JITED_KSYMS_COUNT, field::JITED_KSYMS, count, starts.as_mut_ptr().cast::<u8>()),
            (field::JITED_LENGTHS_COUNT, field::JITED_LENGTHS, count, lengths.as_mut_ptr().cast()),
            (field::LINES_COUNT, field::LINES, lines, records.as_mut_ptr().cast()),
            (field::JITED_LINES_COUNT, field::JITED_LINES, lines, addresses.as_mut_ptr().cast()),
        ] {
            ask[counts] = value as u32;
            point(&mut ask, pointer, to);
        }
        ask[field::LINE_SIZE] = 16;
        ask[field::JITED_LINE_SIZE] = 8;
        // SAFETY: each pointer leads to a buffer of as many records as its count says.
        unsafe { sys::object_info(program, &mut ask) }.context(UNKNOWN)?;
        // Written by the kernel behind the compiler's back.
        let (starts, lengths, records, addresses) = std::hint::black_box((starts, lengths, records, addresses));
        let strings = strings(ask[field::BTF_ID])?;
        let mut named: Vec<(u64, String)> = addresses
            .into_iter()
            .zip(records)
            .map(|(address, [_, file, _, line])| {
                let file = text(&strings, file);
                let short = file.rsplit("src/").next().unwrap_or(&file).to_owned();
                (address, format!("{short}:{}", line >> 10))
            })
            .collect();
        named.sort_by_key(|(address, _)| *address);
        let functions = starts.into_iter().zip(lengths.into_iter().map(u64::from)).collect();
        Ok(Self { functions, lines: named })
    }

    /// Function and line of an address, if it is of this program.
    pub fn find(&self, address: u64) -> Option<(String, String)> {
        let number = self.functions.iter().position(|(start, length)| (*start..start + length).contains(&address))?;
        let after = self.lines.partition_point(|(at, _)| *at <= address);
        let line = after.checked_sub(1).and_then(|i| self.lines.get(i)).map_or("?", |(_, line)| line).to_owned();
        let first = self.lines.partition_point(|(at, _)| *at < self.functions[number].0);
        let begins = self.lines.get(first).map_or("?", |(_, line)| line);
        let name = if number == 0 { "the program".to_owned() } else { format!("its function at {begins}") };
        Some((name, line))
    }
}
