# SPDX-License-Identifier: GPL-2.0-only
"""The way from the arguments to the exit status."""

import argparse
import os
import signal
import sys
from typing import Callable

from . import NAME, Failure, Json
from .campaign import drill_failure, print_drill, run_drill
from .completion import completion
from .listing import print_list, run_list
from .moving import print_move, run_attach, run_detach
from .output import print_json
from .parser import check_usage, parser
from .poisoning import print_dry_run, print_poison, run_dry_run, run_poison
from .recording import print_replay, run_record, run_replay
from .running import run_run
from .undoing import print_undo, run_undo, undo_failure
from .watching import run_watch

RESULTS: dict[str, tuple[Callable[[argparse.Namespace], Json], Callable[[Json], None]]] = {
    "attach": (run_attach, print_move),
    "detach": (run_detach, print_move),
    "list": (run_list, print_list),
    "poison": (run_poison, print_poison),
    "dry-run": (run_dry_run, print_dry_run),
    "undo": (run_undo, print_undo),
    "drill": (run_drill, print_drill),
    "replay": (run_replay, print_replay),
}
# What is printed all the same.
FAILURES: dict[str, Callable[[Json], Failure | None]] = {"undo": undo_failure, "drill": drill_failure}


def run(args: argparse.Namespace) -> None:
    if args.command == "completion":
        print(completion(parser()), end="")
    elif args.command == "watch":
        run_watch(args)
    elif args.command == "record":
        run_record(args)
    else:
        compute, show = RESULTS[args.command]
        result = compute(args)
        if args.json:
            print_json(result)
        else:
            show(result)
        failure = FAILURES[args.command](result) if args.command in FAILURES else None
        if failure:
            raise failure


def work(arguments: list[str]) -> None:
    if arguments[:1] == ["run"]:
        run_run(arguments[1:])
    top = parser()
    args = top.parse_args(arguments)
    if args.command is None:
        top.error("no subcommand given")
    wrong = check_usage(args)
    if wrong:
        top.error(wrong)
    run(args)


def prepare_process() -> None:
    # As in any program, and for what is run: Python ignores two, and makes a traceback of the third.
    for number_ in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        if number_ != signal.SIGINT or signal.getsignal(number_) is not signal.SIG_IGN:
            signal.signal(number_, signal.SIG_DFL)
    # They can be closed, and a program can have a name that a terminal can't show.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def main(arguments: list[str]) -> int:
    prepare_process()
    try:
        try:
            work(arguments)
        finally:
            sys.stdout.flush()
        return 0
    except Failure as failure:
        sentences = str(failure).splitlines()
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        sentences = [f"{name}{error.strerror}: make room for what is written, or write it elsewhere"]
        # What can't be written now, can't be when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for sentence in sentences:
        print(f"{NAME}: {sentence}", file=sys.stderr)
    return 1
