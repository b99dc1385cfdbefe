# SPDX-License-Identifier: GPL-2.0-only
"""Which pages of a program fail in a trial: chosen by the seed, the number of the trial and the program's regions, by nothing
else.

Each place has a score of its own, and those with the lowest are chosen: a program that has a few pages more or less than it
had in another run fails at the same places all the same.
"""

import hashlib
import heapq
import itertools
import os
import re
from array import array
from dataclasses import dataclass
from typing import Callable, Iterable

from . import PAGE, Failure
from .processes import stack_pointers
from .regions import Region

PLANS = ("random", "region", "hot", "cold", "burst", "fork")
# Of the entries of /proc/PID/pagemap.
PRESENT, SOFT_DIRTY = 1 << 63, 1 << 55
# How much of it is read at once.
PIECE = 1 << 19


@dataclass(frozen=True, order=True)
class Place:
    """A page of a program, as `record` names it, but with a number of pages in place of bytes."""

    region: int
    page: int

    def __str__(self) -> str:
        return f"region {self.region} + {self.page * PAGE:#x}"


def pages_with(pid: int, region: Region, bits: int) -> list[int]:
    """The pages of a region that have these bits in /proc/PID/pagemap, by number."""
    found: list[int] = []
    first, last = region.start // PAGE, region.end // PAGE
    try:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
            for start in range(first, last, PIECE):
                entries = array("Q", os.pread(file.fileno(), min(PIECE, last - start) * 8, start * 8))
                found += [start - first + i for i, entry in enumerate(entries) if entry & bits == bits]
    except OSError:
        pass
    return found


def places_with(pid: int, regions: dict[int, Region], bits: int) -> list[Place]:
    return [Place(number, page) for number, region in regions.items() for page in pages_with(pid, region, bits)]


def forget_writes(pid: int) -> None:
    """From now on, soft-dirty is what was written."""
    try:
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("4")
    except OSError as error:
        raise Failure(f"process {pid} can't be asked for what it writes: {error.strerror}; take another --plan") from None


def wanted_regions(pid: int, regions: list[Region], where: Iterable[str]) -> dict[int, Region]:
    """Those that --where names, by number."""
    pointers = stack_pointers(pid) if {"heap", "stack"} & set(where) else set()
    stacks = {i for i, region in enumerate(regions) if any(region.start <= pointer < region.end for pointer in pointers)}
    numbers: set[int] = set()
    for word in where:
        if re.fullmatch("[0-9]+", word):
            if int(word) >= len(regions):
                raise Failure(f"the program has no region {word}, but {len(regions)} of them: take another --where")
            numbers.add(int(word))
        else:
            numbers |= {i for i in range(len(regions)) if word == "all" or (i in stacks) == (word == "stack")}
    return {i: regions[i] for i in sorted(numbers)}


def score(seed: int, trial: int, place: Place) -> bytes:
    return hashlib.blake2b(b"%d %d %d %d" % (seed, trial, place.region, place.page), digest_size=8).digest()


def choose(plan: str, seed: int, trial: int, places: Iterable[Place], number: int,
           can_fail: Callable[[Place], bool] = lambda place: True) -> list[Place]:
    """So many of these places that can fail, or all if they are fewer, in the order in which they do."""
    candidates = list(places)
    if plan == "region" and candidates:
        # One after the other, so that each has its turn.
        regions = sorted({place.region for place in candidates})
        turn = regions[trial % len(regions)]
        candidates = [place for place in candidates if place.region == turn]
    if plan == "burst" and candidates:
        first = min(candidates, key=lambda place: (score(seed, trial, place), place))
        ranked = iter(sorted(place for place in candidates if place.region == first.region and place >= first))
    else:
        heap = [(score(seed, trial, place), place) for place in candidates]
        heapq.heapify(heap)
        ranked = (heapq.heappop(heap)[1] for _ in candidates)
    return list(itertools.islice(filter(can_fail, ranked), number))
