// SPDX-License-Identifier: GPL-2.0

//! What is written to the files: numbers, and lists of places.

use crate::memory_failure::inject::Named;
use kernel::{
    prelude::*,
    task::Pid,
    uaccess::UserSliceReader, //
};

/// Reads all that is written, up to `limit` bytes, as text.
///
/// # Errors
///
/// [`E2BIG`] if it is more, [`EINVAL`] if it is no text, [`EFAULT`] if the memory of the writer can't be read;
/// [`ENOMEM`].
pub(super) fn text(reader: &mut UserSliceReader, limit: usize) -> Result<KVVec<u8>> {
    if reader.len() > limit {
        return Err(E2BIG);
    }
    let mut text = KVVec::from_elem(0, reader.len(), GFP_KERNEL)?;
    reader.read_slice(&mut text)?;
    Ok(text)
}

/// Reads exactly `N` numbers, decimal or hexadecimal with `0x`, separated by white space.
///
/// # Errors
///
/// [`EINVAL`] if that is not what there is, [`ERANGE`] if a number has more than 64 bits, [`EFAULT`] if
/// the memory of the writer can't be read.
pub(super) fn numbers<const N: usize>(reader: &mut UserSliceReader) -> Result<[u64; N]> {
    let (numbers, count) = numbers_up_to(reader)?;
    if count == N {
        Ok(numbers)
    } else {
        Err(EINVAL)
    }
}

/// Reads one to `N` numbers; returns them, and how many there are. Errors as for [`numbers`].
pub(super) fn numbers_up_to<const N: usize>(
    reader: &mut UserSliceReader,
) -> Result<([u64; N], usize)> {
    let mut buffer = [0; 128];
    let text = buffer.get_mut(..reader.len()).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    parse(text)
}

/// As a pid; [`ERANGE`] if no process can have it.
pub(super) fn pid(number: u64) -> Result<Pid> {
    Pid::try_from(number).map_err(|_| ERANGE)
}

/// A place, from two numbers; [`ERANGE`] if no process can have that pid.
pub(super) fn place(pid_number: u64, address: u64) -> Result<Named> {
    Ok(Named {
        pid: pid(pid_number)?,
        address: usize::try_from(address).map_err(|_| ERANGE)?,
    })
}

/// The places in `text`, which has one a line: the words `pid=` and `address=`, among others.
///
/// # Errors
///
/// [`EINVAL`] if a line lacks one of them or its end, or a number is none; [`ERANGE`] if one is too large;
/// [`ENOMEM`].
pub(super) fn places(text: &[u8]) -> Result<KVVec<Named>> {
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
    // A line that was cut off could name another page.
    let text = text.strip_suffix('\n').ok_or(EINVAL)?;
    let mut places = KVVec::new();
    for line in text.split('\n') {
        let word = |key| {
            let mut words = line.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(key)).ok_or(EINVAL)
        };
        let pid = parse_number(word("pid=")?)?;
        let address = parse_number(word("address=")?)?;
        places.push(place(pid, address)?, GFP_KERNEL)?;
    }
    Ok(places)
}

fn parse<const N: usize>(text: &[u8]) -> Result<([u64; N], usize)> {
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
    let mut numbers = [0; N];
    let mut count = 0;
    for word in text.split_ascii_whitespace() {
        *numbers.get_mut(count).ok_or(EINVAL)? = parse_number(word)?;
        count += 1;
    }
    if count == 0 {
        return Err(EINVAL);
    }
    Ok((numbers, count))
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
        assert_eq!(parse::<2>(b"17 0x1f\n"), Ok(([17, 31], 2)));
        assert_eq!(parse::<1>(b"  18446744073709551615 "), Ok(([u64::MAX], 1)));
        assert_eq!(parse::<1>(b"0xffffffffffffffff"), Ok(([u64::MAX], 1)));
        assert_eq!(parse::<3>(b"1 2"), Ok(([1, 2, 0], 2)));
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
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_out_of_range() {
        assert_eq!(parse::<1>(b"18446744073709551616"), Err(ERANGE));
        assert_eq!(parse::<1>(b"0x10000000000000000"), Err(ERANGE));
        assert_eq!(parse::<1>(b"99999999999999999999999999x"), Err(EINVAL));
    }

    #[test]
    fn a_line_names_a_place_by_two_of_its_words() {
        let text = b"pid=7 address=0x1000\npfn=0x1 pids=8,9 pid=8 address=4096\n";
        let places = places(text);
        assert!(places.is_ok_and(|places| *places
            == [
                Named {
                    pid: 7,
                    address: 4096
                },
                Named {
                    pid: 8,
                    address: 4096
                }
            ]));
    }

    #[test]
    fn a_line_without_a_place_or_an_end_is_refused() {
        for text in [
            &b""[..],
            b"\n",
            b"pid=7 address=0x1000",
            b"pid=7\n",
            b"address=1\n",
            b"pid=7 address=0x1000\n\n",
        ] {
            assert!(places(text).is_err_and(|error| error == EINVAL));
        }
    }
}
