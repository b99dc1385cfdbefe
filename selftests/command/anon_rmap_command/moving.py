# SPDX-License-Identifier: GPL-2.0-only
"""`attach`, `detach`: the anonymous memory of a running program becomes memory of the device, and anonymous again."""

import argparse
import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import Iterator

from . import NAME, PAGE, Failure, Json
from .processes import command_name, main_thread, named
from .regions import MAPPING
from .tracing import DATA_SIZE, MMAP, MPROTECT, MUNMAP, PATIENCE, IoVec, Stopped, SystemCalls, libc

DEVICE = "/dev/anon_rmap"
# What is moved at once: so much memory is there twice meanwhile.
PIECE = 64 << 20
# Numbers of system calls, and what they take.
OPEN, CLOSE, MREMAP, MADVISE, GETTID, PROCESS_VM_READV, KCMP, MLOCK2 = 2, 3, 25, 28, 186, 310, 312, 325
SOCKET, CONNECT, RECVMSG, CMSG_CLOEXEC = 41, 42, 47, 0x40000000
READ, WRITE, EXEC = 1, 2, 4
PRIVATE, FIXED, ANONYMOUS, NORESERVE = 0x02, 0x10, 0x20, 0x4000
MAYMOVE_FIXED = 3
GUARD_INSTALL = 102
ADVICE = {"rr": 1, "sr": 2, "dc": 10, "dd": 16}
# PAGEMAP_SCAN: its number, and the kinds of pages.
PAGEMAP_SCAN, PRESENT, SWAPPED, PFNZERO, GUARD = 0xC0606610, 8, 16, 32, 256
RANGES = 2048
# Ranges that one process_vm_readv() takes; it has two lists of them.
VECTORS = DATA_SIZE // 2 // 16
# What begins at the pointer to a thread's own memory of glibc, up to its number: by that the kernel tells of its end
# with a futex that the device can't have.
THREAD_SIZE = 0x2D4

# Why memory with such a flag of smaps stays what it is.
FLAGS = {
    "gd": "it grows downward, which the device can't",
    "wf": "a child is to get zeroes (MADV_WIPEONFORK), which the device can't",
    "ss": "it is a shadow stack",
    "sl": "it is sealed (mseal)",
    "ht": "it has huge pages of hugetlbfs",
    "io": "it is memory of a device",
    "pf": "it is memory of a device",
}


@dataclass(frozen=True)
class Area:
    """A VMA, by smaps; or a part of it."""

    start: int
    end: int
    permissions: str
    name: str
    inode: int
    flags: frozenset[str]
    key: int

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def protection(self) -> int:
        return sum(bit for letter, bit in zip("rwx", (READ, WRITE, EXEC)) if letter in self.permissions)

    def part(self, start: int, end: int) -> "Area":
        return Area(start, end, self.permissions, self.name, self.inode, self.flags, self.key)

    def describe(self) -> Json:
        return {"start": hex(self.start), "end": hex(self.end), "bytes": self.size, "name": self.name or None}


def parse_smaps(text: str) -> list[Area]:
    areas = []
    for block in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)[1:]:
        head, _, rest = block.partition("\n")
        addresses, permissions, _, _, inode, *name = head.split(None, 5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        flags = re.search(r"^VmFlags:(.*)$", rest, re.M)
        key = re.search(r"^ProtectionKey:\s*([0-9]+)", rest, re.M)
        areas.append(Area(start, end, permissions, name[0].strip() if name else "", int(inode),
                          frozenset(flags[1].split() if flags else ()), int(key[1]) if key else 0))
    return areas


def areas_of(pid: int) -> list[Area]:
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="backslashreplace") as file:
        return parse_smaps(file.read())


@dataclass(frozen=True)
class Kind:
    """What memory becomes: a mapping of a file, or, without one, anonymous memory."""

    path: str | None
    name: str

    def is_in(self, area: Area) -> bool:
        """Whether the area is of it already."""
        if "p" not in area.permissions:
            return False
        return area.name == self.name if self.path else is_anonymous(area)


def is_anonymous(area: Area) -> bool:
    return "p" in area.permissions and area.inode == 0 and bool(re.match(r"$|\[heap\]|\[stack|\[anon:", area.name))


DEVICE_KIND = Kind(DEVICE, MAPPING)
ANONYMOUS_KIND = Kind(None, "")


def reason_to_stay(area: Area) -> str | None:
    if area.name == "[stack]":
        return "it is the main stack, which grows downward, and the device can't"
    if "r" not in area.permissions:
        return "it is not readable"
    if is_anonymous(area) and "w" not in area.permissions:
        return "it is not writable"
    if area.key:
        return "it has a protection key"
    return next((FLAGS[flag] for flag in sorted(area.flags) if flag in FLAGS), None)


class Pages:
    """Which pages of a process there are."""

    def __init__(self, pid: int) -> None:
        self.descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)

    def close(self) -> None:
        os.close(self.descriptor)

    def scan(self, start: int, end: int, unlike: int, of: int) -> Iterator[tuple[int, int]]:
        """The ranges with pages of one of the kinds `of` that are of no kind in `unlike`."""
        ranges = (ctypes.c_uint64 * (3 * RANGES))()
        while start < end:
            asked = bytearray(struct.pack("<12Q", 96, 0, start, end, 0, ctypes.addressof(ranges), RANGES, 0, unlike, unlike, of,
                                          of))
            count = fcntl.ioctl(self.descriptor, PAGEMAP_SCAN, asked)
            yield from ((ranges[3 * i], ranges[3 * i + 1]) for i in range(count))
            start, = struct.unpack_from("<Q", asked, 32)

    def content(self, start: int, end: int) -> list[tuple[int, int]]:
        """What is not zero as it was never written, nor a guard."""
        return list(self.scan(start, end, PFNZERO | GUARD, PRESENT | SWAPPED))

    def guards(self, start: int, end: int) -> list[tuple[int, int]]:
        return list(self.scan(start, end, 0, GUARD))


def without(area: Area, holes: list[tuple[int, int]]) -> Iterator[Area]:
    """The parts of an area outside of the holes."""
    start = area.start
    for low, high in sorted(holes):
        if low >= area.end or high <= start:
            continue
        if low > start:
            yield area.part(start, low)
        start = high
    if start < area.end:
        yield area.part(start, area.end)


def threads_own(stopped: Stopped, areas: list[Area], pages: Pages) -> list[tuple[int, int]]:
    """Where the threads' own memory of glibc is: of those that live, and of those to come on the stacks that are kept.

    Such a stack lies above a guard, which is a mapping or a part of one, and its end is the thread's own. What has been moved
    already can have made several mappings of it.
    """
    found = [(registers.fs_base // PAGE * PAGE, (registers.fs_base + THREAD_SIZE - 1) // PAGE * PAGE + PAGE)
             for registers in stopped.threads.values() if registers.fs_base]
    for i, area in enumerate(areas):
        guards = pages.guards(area.start, area.end) if "gu" in area.flags else []
        if guards or (i and areas[i - 1].end == area.start and is_guard(areas[i - 1])):
            tops = [end_of_stack(areas[i:]), *(start for start, _ in guards if start > area.start)]
            found += [(top - PAGE, top) for top in tops]
    return found


def end_of_stack(areas: list[Area]) -> int:
    """Where what begins with the first of these areas ends, whatever it is mapped by."""
    end = areas[0].end
    for area in areas[1:]:
        is_next = area.start == end and area.permissions == areas[0].permissions
        if not is_next or not (is_anonymous(area) or DEVICE_KIND.is_in(area)):
            break
        end = area.end
    return end


def is_guard(area: Area) -> bool:
    """Whether it looks like one: what an arena does not need yet is larger."""
    return area.permissions == "---p" and is_anonymous(area) and area.size <= 1 << 20


@dataclass
class Plan:
    """What is moved, and what stays, with the reason."""

    moved: list[Area]
    left: list[tuple[Area, str]]


def plan(stopped: Stopped, areas: list[Area], pages: Pages, source: Kind, target: Kind) -> Plan:
    result = Plan([], [])
    own = threads_own(stopped, areas, pages) if target.path else []
    for area in areas:
        if not source.is_in(area) or (target.path and area.permissions == "---p"):
            continue
        if reason := reason_to_stay(area):
            result.left.append((area, reason))
            continue
        parts = list(without(area, own))
        result.moved += parts
        result.left += [(hole, "threads have their numbers there, by which their end is told (a shared futex)")
                        for hole in without(area, [(part.start, part.end) for part in parts])]
    return result


def status_of(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}
    except OSError:
        raise Failure(f"there is no process {pid}, or it has ended") from None


def check_process(pid: int) -> None:
    """What can be seen before the process is stopped."""
    if os.uname().machine != "x86_64":
        raise Failure("programs can be moved on x86-64 only: start it by anon_rmap-run")
    status = status_of(pid)
    if pid == os.getpid():
        raise Failure("this is the process that would have to move itself: name another")
    if status.get("Kthread") == "1" or not os.path.exists(f"/proc/{pid}/maps"):
        raise Failure(f"process {pid} is a thread of the kernel: it has no memory of its own")
    if status["State"][0] in "ZX" and status["Threads"] == "1":
        raise Failure(f"process {pid} has ended, and waits for its parent: there is nothing to move")
    if "VmSize" not in status and status["State"][0] not in "ZX":
        raise Failure(f"process {pid} has no memory: it is a thread of the kernel")
    if tracer := int(status["TracerPid"]):
        raise Failure(f"process {pid} is traced by {named(tracer)}: end that first")


def check_stopped(stopped: Stopped, areas: list[Area]) -> None:
    """What can't be moved, as far as it can be seen, and what would kill the process."""
    pid = stopped.pid
    for tid in stopped.threads:
        if status_of(tid).get("Seccomp", "0") != "0":
            raise Failure(f"process {pid} has a seccomp filter, which could kill it for the system calls of this: start it "
                          "without")
    if int(status_of(stopped.alive).get("VmPin", "0 kB").split()[0]):
        raise Failure(f"the kernel has pinned memory of process {pid} for a device: end what uses it first")
    for descriptor in os.listdir(f"/proc/{stopped.alive}/fd"):
        try:
            name = os.readlink(f"/proc/{stopped.alive}/fd/{descriptor}")
        except OSError:
            continue
        if name == "anon_inode:[io_uring]":
            raise Failure(f"process {pid} uses io_uring, by which the kernel writes to memory also while it is stopped: start it "
                          "without")
    for area in areas:
        if area.flags & {"um", "uw", "ui"}:
            raise Failure(f"process {pid} has a userfaultfd on {area.start:#x}-{area.end:#x}: end what uses that first")
    for other in sharers(stopped):
        raise Failure(f"process {pid} shares its memory with {named(other)}, as after vfork(): try again when that has ended")


def sharers(stopped: Stopped) -> Iterator[int]:
    """Other processes with the same memory (kcmp, KCMP_VM)."""
    for other in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if other != stopped.pid and libc.syscall(KCMP, stopped.alive, other, 1, 0, 0) == 0:
            yield other


def check_limits(stopped: Stopped, areas: list[Area], moved: list[Area]) -> None:
    """What the moving needs beside what is there: mappings, and addresses."""
    with open("/proc/sys/vm/max_map_count", encoding="ascii") as file:
        most = int(file.read())
    pid = stopped.pid
    needed = len(areas) + sum(area.size // PIECE + 2 for area in moved) + 4
    if needed > most:
        raise Failure(f"process {pid} would have up to {needed} mappings, more than vm.max_map_count ({most}): raise that")
    with open(f"/proc/{stopped.alive}/limits", encoding="ascii") as file:
        limit = re.search(r"^Max address space\s+([0-9]+)", file.read(), re.M)
    piece = max((min(area.size, PIECE) for area in moved), default=0) + (1 << 20)
    size = int(status_of(stopped.alive)["VmSize"].split()[0]) << 10
    if limit and size + piece > int(limit[1]):
        raise Failure(f"process {pid} has no room for {piece >> 20} MiB more in its limit of addresses: raise that by "
                      f"'prlimit --pid {pid} --as=unlimited'")


def check_readable(stopped: Stopped, area: Area, pages: Pages) -> None:
    """Reads what no page table has, which a parent's may: pagemap shows it then. What has failed can't be read."""
    buffer = ctypes.create_string_buffer(1 << 20)
    for hole in without(area, list(pages.scan(area.start, area.end, 0, PRESENT | SWAPPED))):
        for start in range(hole.start, hole.end, len(buffer)):
            size = min(len(buffer), hole.end - start)
            ours, theirs = IoVec(ctypes.addressof(buffer), size), IoVec(start, size)
            if libc.process_vm_readv(stopped.alive, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) != size:
                raise Failure(f"pages of process {stopped.pid} have failed in {area.start:#x}-{area.end:#x}: give them back by "
                              f"'{NAME} undo {stopped.pid}'")


class Mover:
    """Moves memory in a stopped process."""

    def __init__(self, calls: SystemCalls, pages: Pages, target: Kind) -> None:
        self.calls = calls
        self.pages = pages
        self.target = target
        self.copied = 0

    def __enter__(self) -> "Mover":
        # As the thread numbers itself.
        self.tid = self.calls.call(GETTID)
        self.descriptor = self.open() if self.target.path else -1
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor >= 0:
            self.calls.call(CLOSE, self.descriptor)

    def open(self) -> int:
        path = self.target.path or ""
        try:
            return self.calls.call(OPEN, self.calls.put(path.encode() + b"\0"), os.O_RDWR | os.O_CLOEXEC, 0)
        except OSError as error:
            # It may not, or is in a container without it.
            if error.errno not in (errno.ENOENT, errno.EACCES):
                raise Failure(f"process {self.calls.stopped.pid} can't open {path}: {error.strerror}") from None
        try:
            ours = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Failure(f"{path} is not there: load the module") from None
        except OSError as error:
            raise Failure(f"{path} can't be opened: {error.strerror}; run this as root") from None
        try:
            return self.hand_over(ours)
        finally:
            os.close(ours)

    def hand_over(self, descriptor: int) -> int:
        """Gives the process a descriptor of this one, by a socket."""
        call = self.calls.call
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # The kernel gives it a name.
            listener.bind("")
            listener.listen(1)
            listener.settimeout(PATIENCE)
            address = struct.pack("<H", socket.AF_UNIX) + listener.getsockname()
            theirs = call(SOCKET, socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0)
            page = call(MMAP, 0, PAGE, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0)
            try:
                call(CONNECT, theirs, self.calls.put(address), len(address))
                connection, _ = listener.accept()
                with connection:
                    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                    if main_thread(pid) != self.calls.stopped.pid:
                        raise Failure("another process has taken what was meant for this one: try again")
                    socket.send_fds(connection, [b"-"], [descriptor])
                    # struct msghdr, then its iovec, a control message for one descriptor, and a byte.
                    vector, control, byte = page + 64, page + 128, page + 256
                    header = struct.pack("<QQQQQQQ", 0, 0, vector, 1, control, 24, 0)
                    self.calls.write(page, header.ljust(64, b"\0") + struct.pack("<QQ", byte, 1))
                    call(RECVMSG, theirs, page, CMSG_CLOEXEC)
                return struct.unpack("<i", self.calls.read(control + 16, 4))[0]
            except OSError as error:
                raise Failure(f"process {self.calls.stopped.pid} may not open the device, and can't be given it, as it is in another "
                              f"network namespace: give it the right to ({error.strerror})") from None
            finally:
                call(MUNMAP, page, PAGE)
                call(CLOSE, theirs)

    def map(self, length: int, flags: int = 0, address: int = 0) -> int:
        flags |= PRIVATE | (0 if self.target.path else ANONYMOUS)
        return self.calls.call(MMAP, address, length, READ | WRITE, flags, self.descriptor, 0)

    def move(self, area: Area) -> None:
        for start in range(area.start, area.end, PIECE):
            self.move_piece(area.part(start, min(start + PIECE, area.end)))

    def move_piece(self, piece: Area) -> None:
        """Until the mremap() the old memory is what it was; from then on the new one is there."""
        call, size = self.calls.call, piece.size
        copy = self.map(size, NORESERVE if "nr" in piece.flags else 0)
        try:
            if "lo" in piece.flags:
                call(MLOCK2, copy, size, int("lf" in piece.flags))
            content = self.pages.content(piece.start, piece.end)
            guards = self.pages.guards(piece.start, piece.end) if "gu" in piece.flags else []
            self.copy(content, piece.start, copy)
            self.finish(piece, guards, copy)
            try:
                call(MREMAP, copy, size, size, MAYMOVE_FIXED, piece.start)
            except OSError:
                self.put_back(piece, content, guards, copy)
                raise
        except BaseException:
            call(MUNMAP, copy, size)
            raise

    def copy(self, ranges: list[tuple[int, int]], source: int, target: int) -> None:
        """Copies these ranges, which are at the source, to where they are at the target."""
        for first in range(0, len(ranges), VECTORS):
            some = ranges[first:first + VECTORS]
            theirs = b"".join(struct.pack("<QQ", start, end - start) for start, end in some)
            ours = b"".join(struct.pack("<QQ", start - source + target, end - start) for start, end in some)
            lists = self.calls.put(ours + theirs)
            size = sum(end - start for start, end in some)
            done = self.calls.call(PROCESS_VM_READV, self.tid, lists, len(some), lists + len(ours), len(some), 0)
            if done != size:
                raise Failure(f"what is at {some[0][0]:#x}-{some[-1][1]:#x} can't be copied, after {done} bytes: memory is short, "
                              "or a page there has failed")
            self.copied += size

    def finish(self, piece: Area, guards: list[tuple[int, int]], address: int) -> None:
        """Makes what is at an address like the piece, but for its content."""
        for start, end in guards:
            self.calls.call(MADVISE, start - piece.start + address, end - start, GUARD_INSTALL)
        for flag in sorted(piece.flags & ADVICE.keys()):
            self.calls.call(MADVISE, address, piece.size, ADVICE[flag])
        if piece.protection != READ | WRITE:
            self.calls.call(MPROTECT, address, piece.size, piece.protection)

    def put_back(self, piece: Area, content: list[tuple[int, int]], guards: list[tuple[int, int]], copy: int) -> None:
        """A mremap() that fails can have unmapped what was there: then anonymous memory with that content takes its place."""
        if any(area.start <= piece.start < area.end for area in areas_of(self.calls.tid)):
            return
        flags = PRIVATE | ANONYMOUS | NORESERVE | FIXED
        self.calls.call(MMAP, piece.start, piece.size, READ | WRITE, flags, -1, 0)
        moved = [(start - piece.start + copy, end - piece.start + copy) for start, end in content]
        self.copy(moved, copy, piece.start)
        self.finish(piece, guards, piece.start)


def run_move(pid: int, source: Kind, target: Kind, dry_run: bool) -> Json:
    pid = main_thread(pid)
    check_process(pid)
    done: list[Area] = []
    try:
        with Stopped(pid) as stopped:
            chosen, copied = move_stopped(stopped, source, target, done, dry_run)
    except OSError as error:
        is_short = error.errno in (errno.ENOMEM, errno.EAGAIN)
        reason = "there is no memory left, or it may lock no more" if is_short else error.strerror
        moved = f"{len(done)} of its regions were moved before, and all content is there"
        raise Failure(f"process {pid} could not be moved: {reason}; {moved if done else 'all content is where it was'}") from None
    return describe_move(pid, chosen, copied, stopped.seconds, dry_run)


def move_stopped(stopped: Stopped, source: Kind, target: Kind, done: list[Area], dry_run: bool) -> tuple[Plan, int]:
    """What is planned, and how many bytes were copied. Until all is checked nothing changes."""
    pages = Pages(stopped.alive)
    try:
        areas = areas_of(stopped.alive)
        check_stopped(stopped, areas)
        chosen = plan(stopped, areas, pages, source, target)
        check_limits(stopped, areas, chosen.moved)
        for area in chosen.moved if source.path else ():
            check_readable(stopped, area, pages)
        if dry_run or not chosen.moved:
            return chosen, 0
        with SystemCalls(stopped) as calls, Mover(calls, pages, target) as mover:
            for area in chosen.moved:
                mover.move(area)
                done.append(area)
            return chosen, mover.copied
    finally:
        pages.close()


def describe_move(pid: int, chosen: Plan, copied: int, seconds: float, dry_run: bool) -> Json:
    return {
        "pid": pid,
        "comm": command_name(pid),
        "dry_run": dry_run,
        "moved": [area.describe() for area in chosen.moved],
        "left": [area.describe() | {"reason": reason} for area, reason in chosen.left],
        "bytes": sum(area.size for area in chosen.moved),
        "copied": copied,
        "stopped": round(seconds, 6),
    }


def run_attach(args: argparse.Namespace) -> Json:
    return run_move(args.pid, ANONYMOUS_KIND, DEVICE_KIND, args.dry_run)


def run_detach(args: argparse.Namespace) -> Json:
    return run_move(args.pid, DEVICE_KIND, ANONYMOUS_KIND, args.dry_run)


def print_move(result: Json) -> None:
    verb = "would be moved" if result["dry_run"] else "moved"
    for area in result["moved"]:
        print(f"{verb}: {area['start']}-{area['end']} {area['name'] or ''}".rstrip())
    for area in result["left"]:
        print(f"left: {area['start']}-{area['end']} {area['name'] or ''}".rstrip() + f": {area['reason']}")
    print(f"{len(result['moved'])} regions of {result['comm']}[{result['pid']}], {result['bytes']} bytes, {verb}; "
          f"{result['copied']} bytes copied, stopped for {result['stopped']:.3f} seconds")
