# SPDX-License-Identifier: GPL-2.0-only
"""What several subcommands print."""

import json
from typing import Iterable

from . import Json


def print_json(value: Json) -> None:
    print(json.dumps(value))


def how(signal_name: str | None, tid: int | None) -> str:
    if signal_name is None:
        return "the journal no longer says how"
    if signal_name == "none":
        return "SIGBUS when it touches the page"
    return f"thread {tid} gets SIGBUS {signal_name} at once"


def print_hits(hits: Iterable[Json], verb: str) -> None:
    for hit in hits:
        address = f" at {hit['address']}" if hit["address"] else ""
        print(f"  {verb} {hit['comm'] or 'ended'}[{hit['pid']}]{address}: {how(hit['signal'], hit['tid'])}")


def print_pages(pages: Iterable[Json]) -> None:
    for page in pages:
        region = f", region {page['region']} + {page['offset']}" if page["region"] is not None else ""
        kind = {"kept": ", and stays mapped", "hardware": ", for good"}.get(page["kind"], "")
        print(f"poisoned {page['address']} of {page['comm'] or 'ended'}[{page['pid']}], frame {page['pfn']}{region}{kind}")
        print_hits(page["hit"], "hit")
        if not page["hit"]:
            print("  hit nobody: who touches it gets SIGBUS")
