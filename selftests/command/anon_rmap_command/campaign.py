# SPDX-License-Identifier: GPL-2.0-only
"""`drill`: a campaign of trials, its folder, and its reports."""

import argparse
import fcntl
import json
import os
import random
import shlex
import sys
import time
from typing import IO

from . import NAME, PAGE, Failure, Json
from .debugfs import Debugfs, Interruption
from .planning import Place
from .report import counts, describe, report_of, write_reports
from .trials import OUTPUT_BYTES, Interrupted, Settings, Trial, settings_of

FORMAT = 1
TRIALS = "trials.jsonl"
# So many trials in a row that can't be done end the campaign.
MOST_NOT_DONE = 3


class Folder:
    """The folder of a campaign. What it has to say of a trial is on the disk before the next one begins."""

    def __init__(self, name: str, begins: bool) -> None:
        self.name = os.path.abspath(name)
        self.settings: Settings | None = None
        self.trials: dict[int, Json] = {}
        try:
            if begins:
                os.makedirs(os.path.join(self.name, "logs"), exist_ok=True)
            self.file: IO[bytes] = open(self.path(TRIALS), "a+b" if begins else "r+b")
        except OSError as error:
            if not begins and isinstance(error, FileNotFoundError):
                raise Failure(f"{name} has no campaign: begin one there, without --resume and --trial") from None
            raise Failure(f"{name} can't be written: {error.strerror}; give another --output") from None
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.read(begins)
        except BlockingIOError:
            self.file.close()
            raise Failure(f"another drill writes to {name}: let it end, or give another --output") from None
        except Failure:
            self.file.close()
            raise

    def path(self, *names: str) -> str:
        return os.path.join(self.name, *names)

    def read(self, begins: bool) -> None:
        self.file.seek(0)
        data = self.file.read()
        if begins and data:
            raise Failure(f"{self.name} has a campaign already: continue it with --resume, or give another --output")
        # What was not written as a whole has no end of line.
        whole = data[:data.rfind(b"\n") + 1]
        try:
            head, *entries = [json.loads(line) for line in whole.splitlines()] or [None]
            if head is not None:
                if head["anon_rmap_drill"] != FORMAT:
                    raise ValueError(head)
                self.settings = settings_of(head["settings"])
            self.trials = {int(entry["trial"]): entry for entry in entries if describe(entry)}
        except (KeyError, TypeError, ValueError):
            raise Failure(f"{self.path(TRIALS)} is no campaign of this {NAME}: give another --output") from None
        if not begins and not self.settings:
            raise Failure(f"{self.name} has no campaign: begin one there, without --resume and --trial")
        self.file.seek(len(whole))
        if len(whole) < len(data):
            self.file.truncate()

    def append(self, entry: Json) -> None:
        self.file.write(json.dumps(entry).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    def begin(self, settings: Settings) -> None:
        self.settings = settings
        self.append({"anon_rmap_drill": FORMAT, "settings": settings.json()})

    def add(self, trial: Json) -> None:
        self.append(trial)
        self.trials[trial["trial"]] = trial


class Progress:
    """A line on a terminal: how far it is, and how long it will take."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first, self.begin = total, done, time.monotonic()
        self.is_shown = sys.stderr.isatty()

    def show(self, trials: dict[int, Json]) -> None:
        if not self.is_shown:
            return
        here = len(trials) - self.first
        left = (time.monotonic() - self.begin) / here * (self.total - len(trials)) if here else None
        parts = [f"{number} {outcome}" for outcome, number in counts(trials.values()).items() if number]
        parts += [f"about {duration(left)} left"] if left is not None else []
        sys.stderr.write(f"\r\033[Ktrial {len(trials) + 1} of {self.total}: {', '.join(parts) or 'begins'}")
        sys.stderr.flush()

    def clear(self) -> None:
        if self.is_shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def settings_from(args: argparse.Namespace) -> Settings:
    seed = random.getrandbits(32) if args.seed is None else args.seed
    pages = args.pages or {"burst": 8}.get(args.plan, 10 if args.rate else 1)
    program = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    return Settings(program, args.trials, seed, args.plan, pages, args.rate, args.where or ["all"], args.check, args.ready,
                    args.delay, args.timeout, args.attach)


def tail(log: IO[bytes]) -> str:
    """The last of what a program has said."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - OUTPUT_BYTES))
    return log.read().decode("utf-8", errors="backslashreplace")


def open_folder(args: argparse.Namespace) -> Folder | None:
    if args.resume:
        return Folder(args.output or f"{NAME}-drill", begins=False)
    if args.trial is not None:
        return Folder(args.output, begins=False) if args.output else None
    folder = Folder(args.output or f"{NAME}-drill", begins=True)
    folder.begin(settings_from(args))
    return folder


def run_drill(args: argparse.Namespace) -> Json:
    debugfs = Debugfs()
    if debugfs.counter("poisoned"):
        raise Failure(f"pages have failed already, and would be taken for those of the drill: '{NAME} undo --all' first")
    folder = open_folder(args)
    settings = folder.settings if folder and folder.settings else settings_from(args)
    interruption = Interruption()
    if args.trial is not None:
        return run_one(debugfs, settings, args.trial, interruption, folder)
    assert folder
    failure = None
    try:
        run_trials(debugfs, settings, interruption, folder, quiet=args.json)
    except Interrupted:
        failure = f"interrupted after {len(folder.trials)} of {settings.trials} trials"
    except Failure as reason:
        failure = str(reason)
    report = report_of(settings, folder.trials, folder.name)
    write_reports(folder.path, report)
    folder.file.close()
    again = f"; '{NAME} drill --resume --output {shlex.quote(folder.name)}' continues"
    summary: Json = report["summary"]
    return summary | {"failure": failure and failure + again}


def run_trials(debugfs: Debugfs, settings: Settings, interruption: Interruption, folder: Folder, quiet: bool) -> None:
    progress, not_done = Progress(settings.trials, len(folder.trials)), 0
    for number in range(settings.trials):
        if number in folder.trials:
            continue
        progress.show(folder.trials)
        try:
            with open(folder.path("logs", f"{number}.log"), "w+b") as log:
                trial = Trial(debugfs, settings, number, interruption, log).run()
                trial["output"] = tail(log)
        finally:
            progress.clear()
        not_done = not_done + 1 if trial["outcome"] == "not-done" else 0
        if not_done == MOST_NOT_DONE:
            raise Failure(f"{not_done} trials in a row could not be done: {trial['how']}")
        folder.add(trial)
        if not quiet:
            print(describe(trial), flush=True)


def run_one(debugfs: Debugfs, settings: Settings, number: int, interruption: Interruption, folder: Folder | None) -> Json:
    """A trial once more: at the places where it was, if the folder has it; else at those of the plan."""
    known = None
    if folder:
        if not folder.trials.get(number, {}).get("places"):
            raise Failure(f"no page failed in trial {number} of {folder.name}: there is nothing to repeat")
        known = [Place(place["region"], int(place["offset"], 16) // PAGE) for place in folder.trials[number]["places"]]
    try:
        trial = Trial(debugfs, settings, number, interruption, None).run(known)
    except Interrupted:
        raise Failure("interrupted: what had failed is given back") from None
    return trial | {"failure": "the trial could not be done" if trial["outcome"] == "not-done" else None}


def print_drill(result: Json) -> None:
    if "trial" in result:
        print(describe(result))
        return
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in result["outcomes"].items() if number)
    print(f"{result['done']} of {result['trials']} trials, seed {result['seed']}: {outcomes or 'none'}")
    print(f"report: {result['output']}/report.html")


def drill_failure(result: Json) -> Failure | None:
    return Failure(result["failure"]) if result["failure"] else None
