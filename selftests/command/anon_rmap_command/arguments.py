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
        raise argparse.ArgumentTypeError("0 pages are none: give at least 1")
    return value


def address_range(text: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    if not dash:
        raise argparse.ArgumentTypeError(f"not START-END: {text}")
    if number(start) >= number(end):
        raise argparse.ArgumentTypeError(f"an empty range, as END is not greater than START: {text}")
    return number(start), number(end)
