// SPDX-License-Identifier: GPL-2.0

//! The files in debugfs `anon_rmap/`; the README documents them.

use crate::{
    address_space::AddressSpace,
    memory_failure::{
        inject,
        registry, //
    },
    process,
    stats,
    vma::VmaState, //
};
use core::fmt;
use kernel::{
    debugfs::{
        Reader,
        Writer, //
    },
    fmt::Adapter,
    prelude::*,
    str::CStr,
    sync::Arc,
    task::Pid,
    uaccess::UserSliceReader, //
};

mod file;
pub(crate) use file::Dir;

/// Creates the files.
pub(crate) fn create() -> Dir {
    let dir = Dir::new(c"anon_rmap");
    dir.write_only_file(c"poison_addr", &PoisonAddr);
    dir.write_only_file(c"poison_pfn", &PoisonPfn);
    dir.write_only_file(c"unpoison_pfn", &UnpoisonPfn);
    dir.read_only_file(c"mappings", &Mappings);
    dir.read_only_file(c"poisoned", &Poisoned);
    dir.read_only_file(c"stats", &Stats);
    dir
}

/// `PID ADDRESS`: poisons the page of a process at an address.
struct PoisonAddr;

impl Reader for PoisonAddr {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pid, address] = numbers(reader)?;
        let pid = Pid::try_from(pid).map_err(|_| ERANGE)?;
        inject::poison_addr(pid, usize::try_from(address).map_err(|_| ERANGE)?)
    }
}

/// `PFN`: poisons the page in a frame.
struct PoisonPfn;

impl Reader for PoisonPfn {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pfn] = numbers(reader)?;
        inject::poison_pfn(pfn)
    }
}

/// `PFN`: undoes the poisoning of the page in a frame.
struct UnpoisonPfn;

impl Reader for UnpoisonPfn {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pfn] = numbers(reader)?;
        inject::unpoison_pfn(pfn)
    }
}

/// One line a VMA of the device.
struct Mappings;

impl Writer for Mappings {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error here would be a warning; what there is no memory for is left out.
        for space in AddressSpace::all().unwrap_or_default() {
            for state in space.states().unwrap_or_default() {
                if let Some(line) = MappingLine::new(&space, &state) {
                    writeln!(f, "{line}")?;
                }
            }
        }
        Ok(())
    }
}

/// What `mappings` says of one VMA.
struct MappingLine {
    pid: Pid,
    comm: [u8; 16],
    start: usize,
    end: usize,
    first: u64,
    last: u64,
    present: u64,
    poisoned: u64,
    avcs: usize,
}

impl MappingLine {
    /// Looks at the VMA under its locks; `None` if it has gone.
    fn new(space: &AddressSpace, state: &Arc<VmaState>) -> Option<Self> {
        let mm = space.mm().mmget_not_zero()?;
        let (pid, comm) = process::pid_and_comm(&mm);
        let (start, end) = state.range(&mm.mmap_read_lock())?;
        let indices = state.base().interval(start, end).ok()?;
        let (first, last) = (indices.start(), indices.last());
        let slots = state.amap().lock();
        let poisoned = slots
            .anons
            .iter_range(first, last)
            .filter(|(_, slot)| slot.value.lock().poison().is_some());
        Some(Self {
            pid,
            comm,
            start,
            end,
            first,
            last,
            present: slots.anons.count_range(first, last),
            poisoned: poisoned.count() as u64,
            avcs: state.links(&slots)?.len(),
        })
    }
}

impl fmt::Display for MappingLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comm = CStr::from_bytes_until_nul(&self.comm).unwrap_or(c"");
        write!(
            f,
            "pid={} range={:x}-{:x} index={}-{} present={} poisoned={} avcs={} comm={}",
            self.pid,
            self.start,
            self.end,
            self.first,
            self.last,
            self.present,
            self.poisoned,
            self.avcs,
            Adapter(comm),
        )
    }
}

/// One line a poisoned page.
struct Poisoned;

impl Writer for Poisoned {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        registry::show(f)
    }
}

/// One line a counter.
struct Stats;

impl Writer for Stats {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        stats::show(f)
    }
}

/// Reads exactly `N` numbers, decimal or hexadecimal with `0x`, separated by white space.
///
/// # Errors
///
/// [`EINVAL`] if that is not what there is, [`ERANGE`] if a number has more than 64 bits, [`EFAULT`] if
/// the memory of the writer can't be read.
fn numbers<const N: usize>(reader: &mut UserSliceReader) -> Result<[u64; N]> {
    let mut buffer = [0; 128];
    let text = buffer.get_mut(..reader.len()).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    parse(text)
}

fn parse<const N: usize>(text: &[u8]) -> Result<[u64; N]> {
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
    let mut words = text.split_ascii_whitespace();
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = parse_number(words.next().ok_or(EINVAL)?)?;
    }
    match words.next() {
        None => Ok(numbers),
        Some(_) => Err(EINVAL),
    }
}

fn parse_number(word: &str) -> Result<u64> {
    let (digits, radix) = match word.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    if digits.is_empty() {
        return Err(EINVAL);
    }
    // All of the word is looked at before it is called too large.
    let mut values = digits.chars().map(|c| c.to_digit(radix).ok_or(EINVAL));
    values
        .try_fold(Some(0u64), |number, digit| {
            let digit = u64::from(digit?);
            Ok::<_, Error>(number.and_then(|n| n.checked_mul(u64::from(radix))?.checked_add(digit)))
        })?
        .ok_or(ERANGE)
}

#[kunit_tests(anon_rmap_debugfs)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(parse::<2>(b"17 0x1f\n"), Ok([17, 31]));
        assert_eq!(parse::<1>(b"  18446744073709551615 "), Ok([u64::MAX]));
        assert_eq!(parse::<1>(b"0xffffffffffffffff"), Ok([u64::MAX]));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            &b""[..],
            b" \n",
            b"x",
            b"-1",
            b"+1",
            b"1 2",
            b"0x",
            b"1f",
            b"\xff",
            b"1\0",
        ] {
            assert_eq!(parse::<1>(text), Err(EINVAL));
        }
        assert_eq!(parse::<2>(b"1"), Err(EINVAL));
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_out_of_range() {
        assert_eq!(parse::<1>(b"18446744073709551616"), Err(ERANGE));
        assert_eq!(parse::<1>(b"0x10000000000000000"), Err(ERANGE));
        assert_eq!(parse::<1>(b"99999999999999999999999999x"), Err(EINVAL));
    }
}
