# SPDX-License-Identifier: GPL-2.0-only
"""`record` and `replay`: the same failures in another process."""

import argparse
import json
import sys
import time
from typing import Iterable

from . import NAME, Failure, Json
from .arguments import number
from .debugfs import Debugfs, Interruption, Journal
from .lines import parse_poisoned
from .output import print_json, print_pages
from .poisoning import KINDS, Command, fail_pages
from .processes import command_name, has_ended, main_thread
from .regions import Layouts, Region, nothing_mapped
from .undoing import give_back

FORMAT = 1


class Recorder:
    """Finds the failures of a process among events."""

    def __init__(self, debugfs: Debugfs, pid: int) -> None:
        self.debugfs, self.pid = debugfs, pid
        # What was done, until it is known to whom; and since when.
        self.pending: dict[str, tuple[Json, float]] = {}
        self.layouts = Layouts(debugfs)
        if pid not in self.layouts.mappings:
            raise nothing_mapped(pid)
        self.comm = command_name(pid)

    def look_again(self) -> None:
        """The process can have mapped more. Once it has ended, what is known of it holds."""
        layouts = Layouts(self.debugfs)
        if self.pid in layouts.mappings:
            self.layouts = layouts

    def entry(self, pfn: str, address: int, advance: bool) -> Json:
        event, _ = self.pending.pop(pfn)
        place = self.layouts.place(self.pid, address)
        sizes = [region.end - region.start for region in self.layouts.of(self.pid)]
        size = None if place["region"] is None else sizes[place["region"]]
        keys = ("time", "action", "source", "pfn")
        return {key: event[key] for key in keys} | {"address": hex(address)} | place | {"region_bytes": size, "advance": advance}

    def failures(self, events: list[Json], is_last: bool) -> list[Json]:
        found = []
        if events:
            self.look_again()
        for event in events:
            if event.get("action") in KINDS:
                self.pending[event["pfn"]] = event, time.monotonic()
            elif event.get("was", event.get("pid")) == self.pid and event["pfn"] in self.pending:
                found.append(self.entry(event["pfn"], int(event["address"], 16), advance=False))
        return found + self.in_advance(is_last)

    def in_advance(self, is_last: bool) -> list[Json]:
        """Those that nobody held: only the list says whose they are. Who has held a page comes a moment after what was done."""
        late = {pfn for pfn, (_, since) in self.pending.items() if is_last or time.monotonic() > since + 1}
        pages = self.debugfs.lines("poisoned", parse_poisoned) if late else []
        return [self.entry(hex(page.pfn), page.address, advance=True) for page in pages
                if page.pid == self.pid and not page.pids and hex(page.pfn) in late]


def run_record(args: argparse.Namespace) -> None:
    debugfs = Debugfs()
    pid = main_thread(args.pid)
    recorder = Recorder(debugfs, pid)
    journal = Journal(debugfs, args.past)
    interruption = Interruption()
    recorded = 0
    try:
        file = open(args.file, "w", encoding="utf-8")
    except OSError as error:
        raise Failure(f"{args.file} can't be written: {error.strerror}; name another file") from None
    with file:
        file.write(json.dumps({"anon_rmap_record": FORMAT, "pid": pid, "comm": recorder.comm}) + "\n")
        is_last = False
        while not is_last:
            file.flush()
            sys.stdout.flush()
            # That it ends is no event.
            is_last = interruption.comes_before(journal.descriptor, 0.5) or has_ended(pid)
            for entry in recorder.failures(journal.read(), is_last):
                recorded += 1
                file.write(json.dumps(entry) + "\n")
                if args.json:
                    print_json(entry)
                else:
                    print(f"recorded {entry['address']}, region {entry['region']} + {entry['offset']}")
    if not args.json:
        print(f"{recorded} failures of {recorder.comm}[{pid}] are in {args.file}")


def is_entry(entry: Json) -> bool:
    region = entry["region"]
    if region is not None and (type(region) is not int or region < 0 or number(entry["offset"]) < 0):
        return False
    return isinstance(entry["advance"], bool) and entry["action"] in KINDS and "region_bytes" in entry and "address" in entry


def read_record(name: str) -> list[Json]:
    wrong = Failure(f"{name} is no recording of '{NAME} record', or not a whole one: record the drill again")
    try:
        with open(name, encoding="utf-8") as file:
            head, *entries = [json.loads(line) for line in file]
        if head["anon_rmap_record"] != FORMAT:
            raise wrong
        if not all(is_entry(entry) for entry in entries):
            raise wrong
    except OSError as error:
        raise Failure(f"{name} can't be read: {error.strerror}; name a file of '{NAME} record'") from None
    except (KeyError, TypeError, ValueError, argparse.ArgumentTypeError):
        raise wrong from None
    if not entries:
        raise Failure(f"{name} has no failures: let pages fail while '{NAME} record' runs")
    return entries


def places_of(entries: Iterable[Json], regions: list[Region], pid: int) -> list[Json]:
    """Where the recorded places are in another process."""
    places = []
    for entry in entries:
        if entry["region"] is None:
            raise Failure(f"nobody knew in which region {entry['address']} was: record the drill while the process lives")
        region = regions[entry["region"]] if entry["region"] < len(regions) else None
        offset = int(entry["offset"], 16)
        if not region or region.start + offset >= region.end:
            raise Failure(f"process {pid} has nothing at {entry['offset']} of region {entry['region']}: "
                          f"let it get as far as it was then; '{NAME} list {pid}' shows what it has")
        places.append({"address": region.start + offset, "kept": entry["action"] == "keep", "advance": entry["advance"],
                       "same_size": entry["region_bytes"] == region.end - region.start})
    return places


def fail_places(debugfs: Debugfs, pid: int, places: list[Json]) -> list[Json]:
    """All of them fail, or none."""
    touched = [place for place in places if not place["advance"]]
    lines = [f"pid={pid} address={place['address']:#x} kind={'kept' if place['kept'] else 'simulated'}\n" for place in touched]
    pages = fail_pages(debugfs, Command("replay", "".join(lines), {"pid": pid})) if lines else []
    try:
        for place in places:
            if place["advance"]:
                asked = {"pid": pid, "address": hex(place["address"])}
                pages += fail_pages(debugfs, Command("poison_addr", f"{pid} {place['address']:#x}", asked))
    except Failure:
        give_back(debugfs, pages)
        raise
    return pages


def run_replay(args: argparse.Namespace) -> Json:
    entries = read_record(args.file)
    debugfs = Debugfs()
    pid = main_thread(args.pid)
    layouts = Layouts(debugfs)
    if pid not in layouts.mappings:
        raise nothing_mapped(pid)
    places = places_of(entries, layouts.of(pid), pid)
    sizes = all(place["same_size"] for place in places)
    return {"poisoned": fail_places(debugfs, pid, places), "recorded": len(entries), "same_sizes": sizes}


def print_replay(result: Json) -> None:
    print_pages(result["poisoned"])
    if not result["same_sizes"]:
        print("a region has another size than then: what is at these places may differ")
