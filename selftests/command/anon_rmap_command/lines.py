# SPDX-License-Identifier: GPL-2.0-only
"""The lines of the files in debugfs, which only the functions here know."""

from dataclasses import dataclass
from typing import Any, Callable

from . import NAME, VERSION, Failure, Json


def words_of(line: str) -> dict[str, str]:
    """The words KEY=VALUE of a line. comm= stands last, and can have spaces."""
    line, has_comm, comm = line.partition(" comm=")
    words = dict(word.split("=", 1) for word in line.split())
    return words | {"comm": comm} if has_comm else words


@dataclass(frozen=True)
class Mapping:
    """A line of `mappings`: a VMA."""

    pid: int
    start: int
    end: int
    present: int
    poisoned: int
    comm: str


def parse_mapping(line: str) -> Mapping:
    words = words_of(line)
    start, end = words["range"].split("-")
    return Mapping(int(words["pid"]), int(start, 16), int(end, 16), int(words["present"]), int(words["poisoned"]), words["comm"])


@dataclass(frozen=True)
class Poisoned:
    """A line of `poisoned`: a page that has failed."""

    pfn: int
    kind: str
    source: str
    since: float
    pids: tuple[int, ...]
    pid: int
    address: int


def parse_poisoned(line: str) -> Poisoned:
    words = words_of(line)
    pids = tuple(int(pid) for pid in words["pids"].split(",") if pid)
    return Poisoned(int(words["pfn"], 16), words["kind"], words["source"], float(words["since"]), pids, int(words["pid"]),
                    int(words["address"], 16))


@dataclass(frozen=True)
class Quarantined:
    """A line of `quarantine`: a frame that is out of use."""

    pfn: int
    kind: str


def parse_quarantined(line: str) -> Quarantined:
    words = words_of(line)
    return Quarantined(int(words["pfn"], 16), words["kind"])


def parse_hit(line: str) -> Json:
    """A line of `dry_run`: a process that would be hit."""
    words = words_of(line)
    return {"pid": int(words["pid"]), "address": words["address"], "tid": int(words["tid"]), "signal": words["signal"]}


def parse_event(line: str) -> Json:
    """A line of `events`, as `watch --json` prints it: what was done, who was hit, or how many records were lost."""
    words = words_of(line)
    if "lost" in words:
        return {"lost": int(words["lost"])}
    event: Json = {"number": int(words["number"]), "time": float(words["time"]), "pfn": words["pfn"]}
    if "action" in words:
        index = {"index": int(words["index"])} if "index" in words else {}
        return event | index | {"action": words["action"], "source": words["source"]}
    was = {"was": int(words["was"])} if "was" in words else {}
    return event | parse_hit(line) | was


def parse(parser: Callable[[str], Any], line: str, file: str) -> Any:
    try:
        return parser(line)
    except (KeyError, ValueError):
        raise Failure(f"'{file}' has a line that {NAME} {VERSION} can't read: is the module of that version? {line}") from None
