// SPDX-License-Identifier: GPL-2.0-only

//! What is written to the files: numbers, and lists of places.

use crate::{
    failure::Poison,
    memory_failure::inject::Named, //
};
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
    numbers_in_str(utf8(text)?, counts)
}

fn numbers_in_str<const N: usize>(text: &str, counts: &[usize]) -> Result<([u64; N], usize)> {
    let mut numbers = [Some(0); N];
    let mut count = 0;
    for word in text.split_ascii_whitespace() {
        *numbers.get_mut(count).ok_or(EINVAL)? = number(word)?;
        count += 1;
    }
    if !counts.contains(&count) {
        return Err(EINVAL);
    }
    Ok((in_range(numbers)?, count))
}

/// Exactly `N` numbers, and which of `words` follows, if one does. Errors as for [`numbers`].
pub(super) fn numbers_and<'a, const N: usize>(
    words: &[&'a str],
    text: &[u8],
) -> Result<([u64; N], Option<&'a str>)> {
    let (rest, word) = split_last(words, utf8(text)?);
    Ok((numbers_in_str(rest, &[N])?.0, word))
}

/// `text` without the last word, and which of `words` that is; all of it if it is none.
fn split_last<'a, 'b>(words: &[&'a str], text: &'b str) -> (&'b str, Option<&'a str>) {
    let end = text.trim_ascii_end();
    let found = words.iter().find_map(|word| {
        let rest = end.strip_suffix(word)?;
        // It is a word of its own.
        rest.ends_with(|c: char| c.is_ascii_whitespace())
            .then_some((rest, Some(*word)))
    });
    found.unwrap_or((text, None))
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

/// A range of addresses of a process, which is not empty: `PID START END` or `PID START-END`, and which of `words` follows, if one
/// does; or a line with the words `pid=` and `range=`, among others.
///
/// # Errors
///
/// [`EINVAL`] if it is none of these, or the line lacks its end, or the range is empty; else [`ERANGE`] if a number is too large.
pub(super) fn range<'a>(
    words: &[&'a str],
    text: &[u8],
) -> Result<(Pid, Range<usize>, Option<&'a str>)> {
    let text = utf8(text)?;
    let mut last = None;
    let (pid_word, start, end) = if text.contains('=') {
        let line = whole_lines(text)?;
        if line.contains('\n') {
            return Err(EINVAL);
        }
        let (start, end) = word(line, "range=")?.split_once('-').ok_or(EINVAL)?;
        (word(line, "pid=")?, start, end)
    } else {
        let rest;
        (rest, last) = split_last(words, text);
        let mut words = rest.split_ascii_whitespace();
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
        last,
    ))
}

/// The places in `text`, which has one a line: the words `pid=` and `address=`, among others; and how the page there is to fail,
/// by the word `kind=`: it is kept if it was.
///
/// # Errors
///
/// [`EINVAL`] if a line lacks one of them or its end, or a number is none; else [`ERANGE`] if one is too large; [`ENOMEM`].
pub(super) fn places(text: &[u8]) -> Result<KVVec<(Named, Poison)>> {
    let lines = whole_lines(utf8(text)?)?.split('\n');
    let mut places = KVVec::new();
    let mut is_in_range = true;
    for line in lines {
        let numbers = [
            number(word(line, "pid=")?)?,
            number(word(line, "address=")?)?,
        ];
        match in_range(numbers).and_then(|[pid, address]| place(pid, address)) {
            Ok(place) => {
                let kind = match word(line, "kind=") {
                    Ok("kept") => Poison::Kept,
                    _ => Poison::Simulated,
                };
                places.push((place, kind), GFP_KERNEL_ACCOUNT)?
            }
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
        const WORDS: [&str; 2] = ["touched", "keep"];

        assert_eq!(numbers_and(&WORDS, b"1 2\n"), Ok(([1, 2], None)));
        assert_eq!(
            numbers_and(&WORDS, b"1 2 touched\n"),
            Ok(([1, 2], Some("touched")))
        );
        assert_eq!(
            numbers_and(&WORDS, b"1 2\tkeep"),
            Ok(([1, 2], Some("keep")))
        );
        for text in [
            &b"1 touched"[..],
            b"1 2touched",
            b"1 2 touched 3",
            b"touched",
            b"1 2 touched touched",
            b"1 2 touched keep",
            b"1 2 keeper",
            b"1 2 k",
        ] {
            assert_eq!(numbers_and::<2>(&WORDS, text), Err(EINVAL));
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
        assert_eq!(range(&[], b"4294967296 2 2").err(), Some(EINVAL));
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
            assert_eq!(range(&["keep"], text), Ok((7, 4096..8192, None)));
        }
    }

    #[test]
    fn a_word_can_follow_a_range_but_not_a_line() {
        for text in [&b"7 4096 8192 keep\n"[..], b"7 0x1000-8192 keep"] {
            assert_eq!(range(&["keep"], text), Ok((7, 4096..8192, Some("keep"))));
        }
        // There it belongs to the name of a command.
        let line = b"pid=7 range=0x1000-0x2000 comm=a keep\n";
        assert_eq!(range(&["keep"], line), Ok((7, 4096..8192, None)));
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
            b"7 4096 keep",
            b"7 4096 8192keep",
            b"7 4096-8192keep",
            b"7 4096 8192 keep keep",
        ] {
            assert_eq!(range(&["keep"], text), Err(EINVAL));
        }
    }

    #[test]
    fn a_line_names_a_place_by_two_of_its_words() {
        let text = b"pid=7 address=0x1000\npfn=0x1 pids=8,9 pid=8 address=4096\n";
        let places = places(text);
        let named = |pid| Named { pid, address: 4096 };
        assert!(places.is_ok_and(
            |places| *places == [(named(7), Poison::Simulated), (named(8), Poison::Simulated)]
        ));
    }

    #[test]
    fn a_line_says_whether_the_page_was_kept() {
        for (text, kind) in [
            (&b"kind=kept pid=7 address=1\n"[..], Poison::Kept),
            (b"pid=7 address=1 kind=kept\n", Poison::Kept),
            (b"kind=simulated pid=7 address=1\n", Poison::Simulated),
            (b"kind=hardware pid=7 address=1\n", Poison::Simulated),
            (b"kind=kept2 pid=7 address=1\n", Poison::Simulated),
            (b"kept pid=7 address=1\n", Poison::Simulated),
        ] {
            let named = Named { pid: 7, address: 1 };
            assert!(places(text).is_ok_and(|places| *places == [(named, kind)]));
        }
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
