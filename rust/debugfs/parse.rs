// SPDX-License-Identifier: GPL-2.0

//! What is written to the files: numbers, and lists of places.

use crate::memory_failure::inject::Named;
use core::ops::Range;
use kernel::{
    prelude::*,
    task::Pid, //
};

/// The numbers in `text`, exactly `N` of them, decimal or hexadecimal with `0x`, separated by white space.
///
/// # Errors
///
/// [`EINVAL`] if that is not what there is; else [`ERANGE`] if a number has more than 64 bits.
pub(super) fn numbers<const N: usize>(text: &[u8]) -> Result<[u64; N]> {
    Ok(numbers_in(text, &[N])?.0)
}

/// The numbers in `text`, as many as one of `counts` says, of which none is more than `N`; and how many there are. Errors as for
/// [`numbers`].
pub(super) fn numbers_in<const N: usize>(
    text: &[u8],
    counts: &[usize],
) -> Result<([u64; N], usize)> {
    let mut numbers = [Some(0); N];
    let mut count = 0;
    for word in utf8(text)?.split_ascii_whitespace() {
        *numbers.get_mut(count).ok_or(EINVAL)? = number(word)?;
        count += 1;
    }
    if !counts.contains(&count) {
        return Err(EINVAL);
    }
    Ok((in_range(numbers)?, count))
}

/// Exactly `N` numbers, and whether `word` follows. Errors as for [`numbers`].
pub(super) fn numbers_and<const N: usize>(word: &[u8], text: &[u8]) -> Result<([u64; N], bool)> {
    let rest = text.trim_ascii_end().strip_suffix(word);
    // It is a word of its own.
    let rest = rest.filter(|rest| rest.last().is_some_and(u8::is_ascii_whitespace));
    Ok((numbers(rest.unwrap_or(text))?, rest.is_some()))
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

/// A range of addresses of a process, which is not empty: `PID START END`, `PID START-END`, or a line with the words `pid=` and
/// `range=`, among others.
///
/// # Errors
///
/// [`EINVAL`] if it is none of these, or the line lacks its end, or the range is empty; else [`ERANGE`] if a number is too large.
pub(super) fn range(text: &[u8]) -> Result<(Pid, Range<usize>)> {
    let text = utf8(text)?;
    let (pid_word, start, end) = if text.contains('=') {
        let line = whole_lines(text)?;
        if line.contains('\n') {
            return Err(EINVAL);
        }
        let (start, end) = word(line, "range=")?.split_once('-').ok_or(EINVAL)?;
        (word(line, "pid=")?, start, end)
    } else {
        let mut words = text.split_ascii_whitespace();
        match [(); 4].map(|()| words.next()) {
            [Some(pid), Some(start), Some(end), None] => (pid, start, end),
            [Some(pid), Some(range), None, None] => {
                let (start, end) = range.split_once('-').ok_or(EINVAL)?;
                (pid, start, end)
            }
            _ => return Err(EINVAL),
        }
    };
    let [pid_number, start, end] = in_range([number(pid_word)?, number(start)?, number(end)?])?;
    if start >= end {
        return Err(EINVAL);
    }
    Ok((
        pid(pid_number)?,
        place(pid_number, start)?.address..place(pid_number, end)?.address,
    ))
}

/// The places in `text`, which has one a line: the words `pid=` and `address=`, among others.
///
/// # Errors
///
/// [`EINVAL`] if a line lacks one of them or its end, or a number is none; else [`ERANGE`] if one is too large; [`ENOMEM`].
pub(super) fn places(text: &[u8]) -> Result<KVVec<Named>> {
    let lines = whole_lines(utf8(text)?)?.split('\n');
    let mut places = KVVec::new();
    let mut is_in_range = true;
    for line in lines {
        let numbers = [
            number(word(line, "pid=")?)?,
            number(word(line, "address=")?)?,
        ];
        match in_range(numbers).and_then(|[pid, address]| place(pid, address)) {
            Ok(place) => places.push(place, GFP_KERNEL)?,
            Err(_) => is_in_range = false,
        }
    }
    if is_in_range {
        Ok(places)
    } else {
        Err(ERANGE)
    }
}

fn utf8(text: &[u8]) -> Result<&str> {
    core::str::from_utf8(text).map_err(|_| EINVAL)
}

/// Lines without the end of the last one; [`EINVAL`] if it has none: a line that was cut off could name another page.
fn whole_lines(text: &str) -> Result<&str> {
    text.strip_suffix('\n').ok_or(EINVAL)
}

/// What stands behind `key` in the first word of `line` that begins with it; [`EINVAL`] if none does.
fn word<'a>(line: &'a str, key: &str) -> Result<&'a str> {
    let mut words = line.split_ascii_whitespace();
    words.find_map(|word| word.strip_prefix(key)).ok_or(EINVAL)
}

/// A number; `None` if it has more than 64 bits, [`EINVAL`] if it is none.
fn number(word: &str) -> Result<Option<u64>> {
    let (digits, radix) = match word.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    if digits.is_empty() {
        return Err(EINVAL);
    }
    let mut values = digits.chars().map(|c| c.to_digit(radix).ok_or(EINVAL));
    values.try_fold(Some(0u64), |number, digit| {
        let digit = u64::from(digit?);
        Ok(number.and_then(|n| n.checked_mul(u64::from(radix))?.checked_add(digit)))
    })
}

/// [`ERANGE`] if one is too large. To be asked when the whole text has been looked at.
fn in_range<const N: usize>(numbers: [Option<u64>; N]) -> Result<[u64; N]> {
    if numbers.contains(&None) {
        return Err(ERANGE);
    }
    Ok(numbers.map(Option::unwrap_or_default))
}

#[kunit_tests(anon_rmap_debugfs)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(numbers(b"17 0x1f\n"), Ok([17, 31]));
        assert_eq!(numbers(b"  18446744073709551615 "), Ok([u64::MAX]));
        assert_eq!(numbers(b"0xffffffffffffffff"), Ok([u64::MAX]));
        assert_eq!(numbers_in(b"1", &[1, 3]), Ok(([1, 0, 0], 1)));
        assert_eq!(numbers_in(b"1 2 3", &[1, 3]), Ok(([1, 2, 3], 3)));
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
            assert_eq!(numbers::<1>(text), Err(EINVAL));
        }
        assert_eq!(numbers_in::<3>(b"1 2", &[1, 3]), Err(EINVAL));
    }

    #[test]
    fn a_word_can_follow() {
        assert_eq!(numbers_and(b"touched", b"1 2\n"), Ok(([1, 2], false)));
        assert_eq!(
            numbers_and(b"touched", b"1 2 touched\n"),
            Ok(([1, 2], true))
        );
        for text in [
            &b"1 touched"[..],
            b"1 2touched",
            b"1 2 touched 3",
            b"touched",
            b"1 2 touched touched",
        ] {
            assert_eq!(numbers_and::<2>(b"touched", text), Err(EINVAL));
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_out_of_range() {
        assert_eq!(numbers::<1>(b"18446744073709551616"), Err(ERANGE));
        assert_eq!(numbers::<1>(b"0x10000000000000000"), Err(ERANGE));
        assert_eq!(
            places(b"pid=1 address=0x10000000000000000\n").err(),
            Some(ERANGE)
        );
        assert_eq!(places(b"pid=2147483648 address=1\n").err(), Some(ERANGE));
    }

    #[test]
    fn what_is_no_number_comes_before_what_is_too_large() {
        const LARGE: &[u8] = b"99999999999999999999999999";

        assert_eq!(numbers::<1>(b"99999999999999999999999999x"), Err(EINVAL));
        assert_eq!(numbers::<2>(b"99999999999999999999999999 x"), Err(EINVAL));
        assert_eq!(numbers::<2>(LARGE), Err(EINVAL));
        assert_eq!(
            numbers_in::<3>(b"99999999999999999999999999 1", &[1, 3]),
            Err(EINVAL)
        );
        assert_eq!(range(b"4294967296 2 2").err(), Some(EINVAL));
        assert_eq!(
            places(b"pid=4294967296 address=1\npid=1\n").err(),
            Some(EINVAL)
        );
    }

    #[test]
    fn a_range_has_three_forms() {
        for text in [
            &b"7 0x1000 0x2000"[..],
            b"7 4096 8192\n",
            b"7 0x1000-0x2000",
            b" 7\t4096-0x2000\n\n",
            b"pid=7 range=0x1000-0x2000 index=0-0 present=1 poisoned=0 avcs=1 comm=a pid=8 b\n",
            b"pid=7 range=0x1000-0x2000\n",
        ] {
            assert_eq!(range(text), Ok((7, 4096..8192)));
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            &b""[..],
            b"7",
            b"7 4096",
            b"7 4096-",
            b"7 -8192",
            b"7 4096--8192",
            b"7 4096-8192-12288",
            b"7 4096 - 8192",
            b"7 4096-8192 12288",
            b"7 1 2 3",
            b"7 1000-1fff",
            b"7 0x1000 0x1000",
            b"7 0x2000-0x1000",
            b"pid=7 range=0x1000-0x2000",
            b"pid=7 range=0x1000 0x2000\n",
            b"pid=7 0x1000-0x2000\n",
            b"range=0x1000-0x2000\n",
            b"pid=7 range=0x1000-0x2000\npid=7 range=0x1000-0x2000\n",
            b"pid=7 range=0x1000-0x2000\n\n",
        ] {
            assert_eq!(range(text), Err(EINVAL));
        }
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
