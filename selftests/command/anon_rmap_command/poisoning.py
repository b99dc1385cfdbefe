# SPDX-License-Identifier: GPL-2.0-only
"""`poison` and `dry-run`: pages fail, or would."""

import argparse
import os
import random
import struct
from dataclasses import dataclass
from typing import Iterable

from . import PAGE, Failure, Json
from .debugfs import Debugfs, Journal
from .lines import Poisoned, parse_hit, parse_poisoned
from .output import print_hits, print_pages
from .processes import command_name, main_thread
from .regions import Layouts, nothing_mapped


def frame_at(pid: int, address: int) -> int:
    """The frame that the page tables of a process have at an address."""
    try:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
            entry = os.pread(file.fileno(), 8, address // PAGE * 8)
    except OSError:
        raise nothing_mapped(pid) from None
    value = struct.unpack("Q", entry)[0] if len(entry) == 8 else 0
    if not value >> 63 or not value & (1 << 55) - 1:
        raise Failure(f"process {pid} has no page at {address:#x} in its page tables: let it touch the page first, or give --pfn")
    return value & (1 << 55) - 1


@dataclass
class Command:
    """What is to be written to which file, and what was asked for by that."""

    file: str
    text: str
    asked: Json


def command_of(args: argparse.Namespace) -> Command:
    """The command of debugfs for what `poison` was given."""
    word = " keep" if args.keep else " touched" if args.touched else ""
    if args.random is not None:
        seed = random.getrandbits(32) if args.seed is None else args.seed
        asked = {"pid": args.pid, "count": args.random, "seed": seed}
        return Command("poison_random", f"{args.pid} {args.random} {seed}", asked)
    if args.range:
        start, end = args.range
        addresses = f"{start:#x}-{end:#x}"
        return Command("poison_range", f"{args.pid} {addresses}{word}", {"pid": args.pid, "range": addresses})
    offline = "soft_offline" if args.soft else "hard_offline" if args.hard else None
    if args.pfn is None and not offline:
        asked = {"pid": args.pid, "address": hex(args.address)}
        return Command("poison_addr", f"{args.pid} {args.address:#x}{word}", asked)
    pfn = frame_at(args.pid, args.address) if args.pfn is None else args.pfn
    return Command(offline or "poison_pfn", f"{pfn:#x}{word}", {"pfn": hex(pfn)})


def hits_of(events: Iterable[Json], layouts: Layouts) -> dict[str, list[Json]]:
    """Who was hit, by frame."""
    hits: dict[str, list[Json]] = {}
    for event in events:
        if "action" in event:
            hits[event["pfn"]] = []
        elif "signal" in event:
            pid = event.get("was", event["pid"])
            hit = {"pid": pid, "comm": layouts.name(pid)} | {key: event[key] for key in ("address", "tid", "signal")}
            hits.setdefault(event["pfn"], []).append(hit)
    return hits


def describe_page(page: Poisoned, hits: list[Json] | None, layouts: Layouts) -> Json:
    if hits is None:
        hits = [{"pid": pid, "comm": layouts.name(pid), "address": None, "tid": None, "signal": None} for pid in page.pids]
    place = layouts.place(page.pid, page.address)
    named_at = {"pid": page.pid, "comm": layouts.name(page.pid), "address": hex(page.address)}
    return {"pfn": hex(page.pfn), "kind": page.kind} | named_at | place | {"hit": hits}


KINDS = {"poison": "simulated", "keep": "kept", "hwpoison": "hardware"}


def gone(events: Iterable[Json], hits: dict[str, list[Json]], source: str, listed: set[int]) -> list[Poisoned]:
    """Pages that have failed, and are no longer listed: who had them has ended by it."""
    pages = []
    for event in events:
        holders = hits.get(event.get("pfn", ""), [])
        if event.get("action") in KINDS and event["source"] == source and int(event["pfn"], 16) not in listed and holders:
            pids = tuple(hit["pid"] for hit in holders)
            pages.append(Poisoned(int(event["pfn"], 16), KINDS[event["action"]], source, event["time"], pids, pids[0],
                                  int(holders[0]["address"], 16)))
    return pages


def fail_pages(debugfs: Debugfs, command: Command) -> list[Json]:
    """Does a command by which pages fail; which they are. The list of them is complete, the journal only mostly."""
    journal = Journal(debugfs, past=False)
    before = {(page.pfn, page.kind) for page in debugfs.lines("poisoned", parse_poisoned)}
    # Who is hit can end by it.
    layouts = Layouts(debugfs)
    layouts.of(main_thread(command.asked.get("pid", 0)))
    debugfs.write(command.file, command.text, command.asked)
    events = journal.read()
    hits = hits_of(events, layouts)
    new = [page for page in debugfs.lines("poisoned", parse_poisoned)
           if page.source == command.file and (page.pfn, page.kind) not in before]
    new += gone(events, hits, command.file, {page.pfn for page in new})
    return [describe_page(page, hits.get(hex(page.pfn)), layouts) for page in sorted(new, key=lambda page: page.since)]


def run_poison(args: argparse.Namespace) -> Json:
    debugfs = Debugfs()
    command = command_of(args)
    pages = fail_pages(debugfs, command)
    moved = [{"pfn": command.asked["pfn"]}] if command.file == "soft_offline" else []
    seed = {"seed": command.asked["seed"]} if command.file == "poison_random" else {}
    return seed | {"poisoned": pages, "moved": moved}


def print_poison(result: Json) -> None:
    if "seed" in result:
        print(f"seed {result['seed']}")
    print_pages(result["poisoned"])
    for frame in result["moved"]:
        print(f"moved what was in frame {frame['pfn']} to another, and took the frame out of use; nobody was signalled")


def run_dry_run(args: argparse.Namespace) -> Json:
    debugfs = Debugfs()
    if args.pfn is None:
        text, asked = f"{args.pid} {args.address:#x}", {"pid": args.pid, "address": hex(args.address)}
    else:
        text, asked = hex(args.pfn), {"pfn": hex(args.pfn)}
    debugfs.write("dry_run", text, asked)
    return {"hit": [{"comm": command_name(hit["pid"])} | hit for hit in debugfs.lines("dry_run", parse_hit)]}


def print_dry_run(result: Json) -> None:
    print_hits(result["hit"], "would hit")
    if not result["hit"]:
        print("would hit nobody")
