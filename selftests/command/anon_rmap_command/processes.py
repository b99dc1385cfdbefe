# SPDX-License-Identifier: GPL-2.0-only
"""What /proc says of processes."""

import re
from dataclasses import dataclass

from .lines import parse


def main_thread(pid: int) -> int:
    """The process that a thread is one of; if there is none, that number."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            found = re.search(r"^Tgid:\s*([0-9]+)", file.read(), re.M)
    except OSError:
        found = None
    return int(found[1]) if found else pid


def command_name(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return file.read().removesuffix("\n")
    except OSError:
        return None


def named(pid: int) -> str:
    return f"{command_name(pid) or 'ended'}[{pid}]"


def has_ended(pid: int) -> bool:
    """Whether no thread of it is left. Its parent need not have waited for it."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            status = file.read()
    except OSError:
        return True
    return bool(re.search(r"^State:\s*[ZX]", status, re.M) and re.search(r"^Threads:\s*1$", status, re.M))


@dataclass(frozen=True)
class Vma:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    permissions: str
    inode: int
    name: str


def parse_vma(line: str) -> Vma:
    addresses, permissions, _, _, inode, *name = line.split(None, 5)
    start, end = addresses.split("-")
    return Vma(int(start, 16), int(end, 16), permissions, int(inode), name[0].strip() if name else "")


def maps(pid: int) -> list[Vma]:
    """The memory of a process; nothing if it has ended."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="backslashreplace") as file:
            return [parse(parse_vma, line, f"/proc/{pid}/maps") for line in file]
    except OSError:
        return []
