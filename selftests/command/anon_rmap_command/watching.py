# SPDX-License-Identifier: GPL-2.0-only
"""`watch`: the journal, as it happens."""

import argparse
import sys

from . import Json
from .debugfs import Debugfs, Interruption, Journal
from .output import how, print_json
from .processes import named


def print_event(event: Json) -> None:
    if "lost" in event:
        print(f"{event['lost']} events were lost: they came faster than they were read")
    elif "action" in event:
        print(f"{event['time']:.6f} {event['action']} frame {event['pfn']} by {event['source']}")
    else:
        who = named(event["pid"]) if event["pid"] else f"ended[{event.get('was', 0)}]"
        print(f"{event['time']:.6f} hit {who} at {event['address']}, frame {event['pfn']}: {how(event['signal'], event['tid'])}")


def run_watch(args: argparse.Namespace) -> None:
    journal = Journal(Debugfs(), args.past)
    interruption = Interruption()
    show = print_json if args.json else print_event
    interrupted = False
    while not interrupted:
        for event in journal.read():
            show(event)
        sys.stdout.flush()
        interrupted = interruption.comes_before(journal.descriptor)
