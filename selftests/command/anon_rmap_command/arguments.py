# SPDX-License-Identifier: GPL-2.0-only
"""Numbers and ranges, as they are given and as debugfs takes them."""

import argparse
import re


def number(text: str) -> int:
    """A number as debugfs takes it: decimal, or hexadecimal with 0x, of at most 64 bits."""
    if not re.fullmatch(r"0x[0-9a-fA-F]+|[0-9]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"not a number, decimal or hexadecimal with 0x: {text}")
    digits, radix = (text[2:], 16) if text.startswith("0x") else (text, 10)
    # Of thousands of digits int() makes no number.
    if len(digits.lstrip("0")) > 20 or int(digits[-20:], radix) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"a number of more than 64 bits: {text}")
    return int(digits[-20:], radix)


def process_number(text: str) -> int:
    value = number(text)
    if not 0 < value < 1 << 31:
        raise argparse.ArgumentTypeError(f"no process can have this number: {text}")
    return value


def count(text: str) -> int:
    value = number(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 are none: give at least 1")
    return value


def seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text}")
    return float(text)


def some_seconds(text: str) -> float:
    if seconds(text) == 0:
        raise argparse.ArgumentTypeError("no time at all: give more than 0")
    return seconds(text)


def rate(text: str) -> float:
    try:
        return some_seconds(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"not a number of pages a second: {text}") from None


def region_name(text: str) -> str:
    """What --where takes."""
    if text not in ("heap", "stack", "all") and not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"neither heap, stack, all nor the number of a region: {text}")
    return text


def address_range(text: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    if not dash:
        raise argparse.ArgumentTypeError(f"not START-END: {text}")
    if number(start) >= number(end):
        raise argparse.ArgumentTypeError(f"an empty range, as END is not greater than START: {text}")
    return number(start), number(end)
