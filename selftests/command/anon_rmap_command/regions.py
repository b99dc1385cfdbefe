# SPDX-License-Identifier: GPL-2.0-only
"""The regions of processes: what each mmap() of the device has made."""

import os
import re
from dataclasses import dataclass, field
from typing import Iterable

from . import NAME, Failure, Json
from .debugfs import Debugfs
from .lines import Mapping, parse_mapping
from .processes import Vma, command_name, maps
from .refusals import IN_LIST

# The file behind the device's mappings, in /proc/PID/maps.
MAPPING = "anon_inode:[anon_rmap]"


@dataclass
class Region:
    """What one mmap() has made: VMAs beside each other that are of one file, however mprotect() has split them."""

    inode: int
    vmas: list[Mapping] = field(default_factory=list)
    permissions: list[str] = field(default_factory=list)

    @property
    def start(self) -> int:
        return self.vmas[0].start

    @property
    def end(self) -> int:
        return self.vmas[-1].end


def regions_of(mappings: Iterable[Mapping], vmas: Iterable[Vma]) -> list[Region]:
    """The regions of a process, from the highest address down: what it maps later is mostly below, and changes no number."""
    by_start = {vma.start: vma for vma in vmas if vma.name == MAPPING}
    regions: list[Region] = []
    for mapping in sorted(mappings, key=lambda m: m.start):
        vma = by_start.get(mapping.start)
        inode = vma.inode if vma else 0
        if not regions or regions[-1].inode != inode or regions[-1].end != mapping.start:
            regions.append(Region(inode))
        regions[-1].vmas.append(mapping)
        if vma and vma.permissions not in regions[-1].permissions:
            regions[-1].permissions.append(vma.permissions)
    return regions[::-1]


# How much of the address space each heap of glibc's malloc() has, but for the first; at multiples of that.
GLIBC_HEAP = 64 << 20


def is_glibc_arena(region: Region) -> bool:
    """Whether it looks like a heap of a thread: it has such a place, and what it does not need yet is not accessible."""
    has_its_place = region.start % GLIBC_HEAP == 0 and region.end - region.start == GLIBC_HEAP
    return has_its_place and region.permissions in (["rw-p"], ["rw-p", "---p"])


def allocator_of(vmas: Iterable[Vma]) -> str | None:
    """The library that malloc() is taken from."""
    libraries = {os.path.basename(vma.name) for vma in vmas if vma.name.startswith("/")}
    for pattern in (r"lib(je|mi|tc)malloc.*", r"libc\.so.*"):
        for library in sorted(libraries):
            if re.fullmatch(pattern, library):
                return library
    return None


def neighbour(vmas: Iterable[Vma], region: Region, above: bool) -> Json | None:
    """The nearest mapping with a name that is not the device's, and how far away that is."""
    others = [vma for vma in vmas if vma.name not in ("", MAPPING)]
    if above:
        found = min((vma for vma in others if vma.start >= region.end), key=lambda vma: vma.start, default=None)
        return {"name": found.name, "distance": found.start - region.end} if found else None
    found = max((vma for vma in others if vma.end <= region.start), key=lambda vma: vma.end, default=None)
    return {"name": found.name, "distance": region.start - found.end} if found else None


def describe_region(index: int, region: Region, vmas: list[Vma]) -> Json:
    return {
        "region": index,
        "start": hex(region.start),
        "end": hex(region.end),
        "bytes": region.end - region.start,
        "vmas": len(region.vmas),
        "permissions": region.permissions,
        "present": sum(vma.present for vma in region.vmas),
        "poisoned": sum(vma.poisoned for vma in region.vmas),
        "arena": is_glibc_arena(region),
        "below": neighbour(vmas, region, above=False),
        "above": neighbour(vmas, region, above=True),
    }


def describe_process(pid: int, mappings: list[Mapping], vmas: list[Vma]) -> Json:
    regions = [describe_region(i, region, vmas) for i, region in enumerate(regions_of(mappings, vmas))]
    totals = {key: sum(region[key] for region in regions) for key in ("bytes", "present", "poisoned")}
    return {"pid": pid, "comm": mappings[0].comm, "malloc": allocator_of(vmas)} | totals | {"regions": regions}


def by_process(mappings: Iterable[Mapping]) -> dict[int, list[Mapping]]:
    processes: dict[int, list[Mapping]] = {}
    for mapping in mappings:
        processes.setdefault(mapping.pid, []).append(mapping)
    return processes


def nothing_mapped(pid: int) -> Failure:
    if command_name(pid) is None:
        return Failure(f"there is no process {pid}, or it has ended: {IN_LIST}")
    return Failure(f"process {pid} maps nothing of the device: '{NAME} attach {pid}' moves it there, '{NAME} run' starts one so")


class Layouts:
    """The regions of processes, looked up once each."""

    def __init__(self, debugfs: Debugfs) -> None:
        self.mappings = by_process(debugfs.lines("mappings", parse_mapping))
        self.known: dict[int, list[Region]] = {}

    def of(self, pid: int) -> list[Region]:
        if pid not in self.known:
            self.known[pid] = regions_of(self.mappings.get(pid, []), maps(pid))
        return self.known[pid]

    def place(self, pid: int, address: int) -> Json:
        """Which region an address is in, and how far."""
        for index, region in enumerate(self.of(pid)):
            if region.start <= address < region.end:
                return {"region": index, "offset": hex(address - region.start)}
        return {"region": None, "offset": None}

    def name(self, pid: int) -> str | None:
        """Its name, also when it has ended by now."""
        return self.mappings[pid][0].comm if pid in self.mappings else command_name(pid)
