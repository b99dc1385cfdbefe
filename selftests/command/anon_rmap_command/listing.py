# SPDX-License-Identifier: GPL-2.0-only
"""`list`: who maps the device, and where."""

import argparse
from typing import Iterable

from . import Json
from .debugfs import Debugfs
from .lines import parse_mapping
from .processes import main_thread, maps
from .regions import by_process, describe_process, nothing_mapped


def describe(debugfs: Debugfs, pids: Iterable[int]) -> list[Json]:
    """These processes, or, without any, all that map the device."""
    processes = by_process(debugfs.lines("mappings", parse_mapping))
    wanted = [main_thread(pid) for pid in pids] or list(processes)
    for pid in wanted:
        if pid not in processes:
            raise nothing_mapped(pid)
    return [describe_process(pid, processes[pid], maps(pid)) for pid in dict.fromkeys(wanted)]


def run_list(args: argparse.Namespace) -> Json:
    return {"processes": describe(Debugfs(), args.pid)}


def print_list(result: Json) -> None:
    for process in result["processes"]:
        print(f"{process['comm']}[{process['pid']}]: {process['bytes']} bytes, {process['present']} pages present, "
              f"{process['poisoned']} poisoned; malloc() is of {process['malloc'] or 'the program'}")
        for region in process["regions"]:
            notes = ["an arena of glibc"] if region["arena"] else []
            notes += [f"{region[side]['distance']} bytes {other} {region[side]['name']}"
                      for side, other in (("below", "above"), ("above", "below")) if region[side]]
            print(f"  {region['region']}: {region['start']}-{region['end']} {','.join(region['permissions'])} "
                  f"{region['bytes']} bytes, {region['present']} present, {region['poisoned']} poisoned; {', '.join(notes)}")
    if not result["processes"]:
        print("nobody maps anything of the device")
