# SPDX-License-Identifier: GPL-2.0-only
"""What /proc says of processes."""

import os
import re
import time
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


def stack_pointers(pid: int) -> set[int]:
    """Where the threads of a process have their stacks. Of one that runs just now it is asked again, for a short time."""
    pointers: set[int] = set()
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return pointers
    for thread in threads:
        for _ in range(20):
            try:
                with open(f"/proc/{pid}/task/{thread}/syscall", encoding="ascii") as file:
                    words = file.read().split()
            except OSError:
                break
            # The number of the system call and its arguments, or -1, come before.
            if len(words) >= 3:
                pointers.add(int(words[-2], 16))
                break
            time.sleep(0.01)
    return pointers


@dataclass(frozen=True)
class Stat:
    """What /proc/PID/stat says of a process."""

    state: str
    session: int


def stat_of(pid: int) -> Stat | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name stands in brackets, and can have any itself.
            words = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return Stat(words[0], int(words[3])) if len(words) > 3 else None


def of_session(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    stats = {int(name): stat_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return sorted(pid for pid, stat in stats.items() if stat and stat.session == session and stat.state not in "ZX")


def anonymous_kib(pid: int) -> int:
    """How much anonymous memory a process has."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            found = re.search(r"^RssAnon:\s*([0-9]+)", file.read(), re.M)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def children_of(pid: int) -> set[int]:
    """What all threads of a process have started, and was not waited for."""
    children: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                children |= {int(word) for word in file.read().split()}
    except OSError:
        pass
    return children


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for that signal."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", file.read(), re.M)
    except OSError:
        return False
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)
