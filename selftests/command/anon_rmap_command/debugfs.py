# SPDX-License-Identifier: GPL-2.0-only
"""The files of the module, and waiting for them."""

import os
import re
import select
import signal
from typing import Any, Callable

from . import VERSION, Failure, Json
from .lines import parse, parse_event
from .refusals import refusal

CAP_SYS_ADMIN = 21


def has_capability() -> bool:
    """CAP_SYS_ADMIN in the initial user namespace, where all numbers of users are themselves."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        effective = re.search(r"^CapEff:\s*([0-9a-f]+)", file.read(), re.M)
    with open("/proc/self/uid_map", encoding="ascii") as file:
        is_initial = file.read().split() == ["0", "0", str((1 << 32) - 1)]
    return is_initial and bool(effective and int(effective[1], 16) >> CAP_SYS_ADMIN & 1)


class Debugfs:
    """The directory of the module."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Failure("needs root: run it again by sudo")
        if not has_capability():
            raise Failure("this root lacks CAP_SYS_ADMIN in the initial user namespace: run it outside of the container")
        where = self.mount_point()
        if not where:
            raise Failure("debugfs is not mounted: mount -t debugfs debugfs /sys/kernel/debug")
        self.directory = os.path.join(where, "anon_rmap")
        if not os.path.isdir(self.directory):
            if not os.path.isdir("/sys/module/anon_rmap"):
                raise Failure("the module is not loaded: insmod anon_rmap.ko")
            raise Failure("the module has no files in debugfs: boot without debugfs=off, and load it again")

    @staticmethod
    def mount_point() -> str | None:
        """Where debugfs is mounted: /sys/kernel/debug, if it is there."""
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split() for line in file]
        found = sorted(mount[1] for mount in mounts if mount[2] == "debugfs")
        return "/sys/kernel/debug" if "/sys/kernel/debug" in found else found[0] if found else None

    def open(self, file: str, flags: int) -> int:
        try:
            return os.open(os.path.join(self.directory, file), flags)
        except PermissionError:
            # Whoever lacks a right was told before.
            reason = "the kernel is locked down, so nobody writes to debugfs: boot it without lockdown and Secure Boot"
            raise Failure(reason) from None
        except FileNotFoundError:
            raise Failure(f"the module has no file '{file}': is it of version {VERSION}?") from None

    def lines(self, file: str, parser: Callable[[str], Any] = str) -> list[Any]:
        with os.fdopen(self.open(file, os.O_RDONLY), encoding="utf-8", errors="backslashreplace") as text:
            return [parse(parser, line, file) for line in text.read().splitlines()]

    def counter(self, name: str) -> int:
        """One of `stats`."""
        counters = dict(line.split() for line in self.lines("stats"))
        if name not in counters:
            raise Failure(f"'stats' has no {name}: is the module of version {VERSION}?")
        return int(counters[name])

    def write(self, file: str, command: str, asked: Json) -> None:
        """Does a command, by one write(): a part of it would be another."""
        self.refusal(file, command, asked, raises=True)

    def refusal(self, file: str, command: str, asked: Json, raises: bool = False) -> str | None:
        """Does a command; says why it was refused, or raises that."""
        descriptor = self.open(file, os.O_WRONLY)
        try:
            os.write(descriptor, command.encode())
            return None
        except OSError as error:
            reason = refusal(file, error.errno or 0, asked)
            if raises:
                raise Failure(reason) from None
            return reason
        finally:
            os.close(descriptor)


class Journal:
    """What is new in `events`."""

    def __init__(self, debugfs: Debugfs, past: bool) -> None:
        self.descriptor = debugfs.open("events", os.O_RDONLY)
        self.rest = b""
        if not past:
            self.read()

    def read(self) -> list[Json]:
        while piece := os.read(self.descriptor, 1 << 16):
            self.rest += piece
        lines, _, self.rest = self.rest.rpartition(b"\n")
        return [parse(parse_event, line, "events") for line in lines.decode().splitlines()]


class Interruption:
    """Ctrl-C and SIGTERM, as a descriptor that is readable from then on: nothing is left half done."""

    def __init__(self) -> None:
        self.descriptor, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number_ in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number_) is not signal.SIG_IGN:
                signal.signal(number_, lambda *_: None)

    def comes_before(self, descriptor: int | None, seconds: float | None = None) -> bool:
        """Waits until there is something to read, so many seconds at most; whether it was interrupted."""
        poll = select.poll()
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        poll.register(self.descriptor, select.POLLIN)
        ready = poll.poll(None if seconds is None else seconds * 1000)
        return any(fd == self.descriptor for fd, _ in ready)
