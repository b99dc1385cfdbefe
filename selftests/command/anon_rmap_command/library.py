# SPDX-License-Identifier: GPL-2.0-only
"""Drills for tests in Python: programs are started on memory of the device, pages of them fail and come back.

    with Drills() as poison:
        server = poison.start("redis-server", "--port", "6390")
        poison(server, random=3, seed=1)
"""

import argparse
import subprocess
from typing import Any, Iterable

from . import Json
from .debugfs import Debugfs
from .lines import parse_poisoned
from .listing import describe
from .poisoning import command_of, fail_pages
from .running import runner
from .undoing import give_back, undo_failure

# A process, by its number or as subprocess has it.
Process = int | subprocess.Popen[Any]


def number_of(process: Process) -> int:
    return process if isinstance(process, int) else process.pid


class Drills:
    """At its end, what has failed by it is given back, and what it has started is killed."""

    def __init__(self) -> None:
        """Raises Failure, with a sentence, if there can be no drills here."""
        self.debugfs = Debugfs()
        self.started: list[subprocess.Popen[Any]] = []
        self.failed: list[Json] = []

    def start(self, *command: str, options: Iterable[str] = ("--require",), **popen: Any) -> subprocess.Popen[Any]:
        """Starts a program on memory of the device: `options` are those of anon_rmap-run, what else is given is for Popen."""
        process = subprocess.Popen([runner(), *options, *command], **popen)
        self.started.append(process)
        return process

    def __call__(self, process: Process, address: int | None = None, *, end: int | None = None, random: int | None = None,
                 seed: int | None = None, keep: bool = False, touched: bool = False) -> list[Json]:
        """Lets a page of a process fail, or all that it has touched up to `end`, or so many by chance, which a seed repeats.

        Returns which, as `anon_rmap poison --json` has them. With `keep` they stay mapped; without `touched`, the page at an
        address also fails if nobody has touched it. Raises Failure, and changes nothing, if that is refused.
        """
        if (address is None) == (random is None) or end is not None and address is None or keep and random is not None:
            raise ValueError("wants an address, perhaps with end, or random")
        pages = fail_pages(self.debugfs, command_of(argparse.Namespace(
            pid=number_of(process), address=address, range=None if end is None else (address, end), random=random, seed=seed,
            keep=keep, touched=touched, pfn=None, soft=False, hard=False)))
        self.failed += pages
        return pages

    def regions(self, process: Process) -> list[Json]:
        """Its memory of the device, as `anon_rmap list --json` has it."""
        described, = describe(self.debugfs, [number_of(process)])
        return described["regions"]

    def still_failed(self, pages: Iterable[Json]) -> list[Json]:
        listed = {hex(page.pfn) for page in self.debugfs.lines("poisoned", parse_poisoned)}
        return [page for page in pages if page["pfn"] in listed]

    def undo(self, pages: Iterable[Json] | None = None) -> None:
        """Gives pages back with their content, all that have failed by this if none are named; Failure if one can't be."""
        wanted = self.failed if pages is None else list(pages)
        result = give_back(self.debugfs, self.still_failed(wanted))
        self.failed = [page for page in self.failed if page not in wanted]
        # Whoever had a page can have ended meanwhile, and the page with it.
        result["left"] = self.still_failed(result["left"])
        if failure := undo_failure(result):
            raise failure

    def close(self) -> None:
        try:
            self.undo()
        finally:
            for process in self.started:
                process.kill()
                process.wait()
            self.started.clear()

    def __enter__(self) -> "Drills":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
