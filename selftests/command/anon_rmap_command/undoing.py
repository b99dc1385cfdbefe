# SPDX-License-Identifier: GPL-2.0-only
"""`undo`: what has failed is given back."""

import argparse
from typing import Iterable

from . import NAME, PAGE, Failure, Json
from .debugfs import Debugfs
from .lines import parse_mapping, parse_poisoned, parse_quarantined
from .processes import main_thread, named
from .regions import by_process, nothing_mapped


def failed_frames(debugfs: Debugfs) -> list[Json]:
    """All frames that could be given back, and where the page was named; then those that only are out of use."""
    pages = debugfs.lines("poisoned", parse_poisoned)
    known = {page.pfn for page in pages}
    frames = [{"pfn": hex(page.pfn), "pid": page.pid or None, "address": hex(page.address)} for page in pages]
    return frames + [{"pfn": hex(frame.pfn), "pid": None, "address": None}
                     for frame in debugfs.lines("quarantine", parse_quarantined) if frame.pfn not in known]


def frames_of_process(debugfs: Debugfs, pid: int, address: int | None) -> list[Json]:
    """What has failed of a process: what was named there, or what it held."""
    pid = main_thread(pid)
    if pid not in by_process(debugfs.lines("mappings", parse_mapping)):
        raise nothing_mapped(pid)
    pages = [page for page in debugfs.lines("poisoned", parse_poisoned) if pid == page.pid or pid in page.pids]
    if address is not None:
        pages = [page for page in pages if page.address // PAGE == address // PAGE]
        if not pages:
            raise Failure(f"no page has failed at {address:#x} of process {pid}: '{NAME} undo {pid}' finds all that have")
    return [{"pfn": hex(page.pfn), "pid": page.pid or None, "address": hex(page.address)} for page in pages]


def give_back(debugfs: Debugfs, frames: Iterable[Json]) -> Json:
    result: Json = {"undone": [], "left": []}
    for frame in frames:
        reason = debugfs.refusal("unpoison_pfn", frame["pfn"], {"pfn": frame["pfn"]})
        if reason:
            result["left"].append(frame | {"reason": reason})
        else:
            result["undone"].append(frame)
    return result


def run_undo(args: argparse.Namespace) -> Json:
    debugfs = Debugfs()
    if args.all:
        return give_back(debugfs, failed_frames(debugfs))
    if args.pfn is None:
        return give_back(debugfs, frames_of_process(debugfs, args.pid, args.address))
    frames = [frame for frame in failed_frames(debugfs) if frame["pfn"] == hex(args.pfn)]
    return give_back(debugfs, frames or [{"pfn": hex(args.pfn), "pid": None, "address": None}])


def print_undo(result: Json) -> None:
    for frame in result["undone"]:
        where = f", {frame['address']} of {named(frame['pid'])}" if frame["pid"] else ""
        print(f"undone: frame {frame['pfn']}{where}")
    if not result["undone"] and not result["left"]:
        print("nothing has failed")


def undo_failure(result: Json) -> Failure | None:
    """The exit status is for what could not be undone, too."""
    left = [f"frame {frame['pfn']} can't be given back: {frame['reason']}" for frame in result["left"]]
    return Failure("\n".join(left)) if left else None
