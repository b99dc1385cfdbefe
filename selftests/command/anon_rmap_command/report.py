# SPDX-License-Identifier: GPL-2.0-only
"""The reports of a campaign: JSON, JUnit, and the page."""

import json
import os
import re
import shlex
import xml.etree.ElementTree as xml
from typing import Callable, Iterable

from . import NAME, VERSION, Json
from .report_page import page_of
from .trials import OUTCOMES, Settings

# What JUnit calls a failure, and what it calls skipped.
FAILURES = ("died", "hung", "survived-wrong")
SKIPPED = ("untouched", "not-done")


def counts(trials: Iterable[Json]) -> dict[str, int]:
    outcomes = [trial["outcome"] for trial in trials]
    return {outcome: outcomes.count(outcome) for outcome in OUTCOMES}


def where(trial: Json) -> str:
    """Where the pages failed, in few words."""
    places = [f"region {place['region']} + {place['offset']}" for place in trial["places"]]
    return ", ".join(places[:2]) + (f" and {len(places) - 2} more" if len(places) > 2 else "")


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def describe(trial: Json) -> str:
    """A trial in a line."""
    parts = [where(trial)] if trial["places"] else []
    parts += [f"touched after {seconds(trial['touched_after'])}"] if trial["touched_after"] is not None else []
    parts += [trial["how"]]
    return f"trial {trial['trial']}: {trial['outcome']}: {'; '.join(parts)}"


def beside(region: Json) -> str | None:
    """What has a name and is nearest to a region."""
    sides = [region[side] for side in ("below", "above") if region[side]]
    return os.path.basename(min(sides, key=lambda side: side["distance"])["name"]) if sides else None


def by_region(trials: Iterable[Json]) -> list[Json]:
    """What came of the trials in each region in which pages failed; of a trial in several, in each."""
    regions: dict[int, Json] = {}
    for trial in trials:
        sizes = {region["region"]: region for region in trial["regions"]}
        for number in sorted({place["region"] for place in trial["places"]}):
            region = regions.setdefault(number, {"region": number, "bytes": 0, "beside": None, "trials": 0,
                                                 "outcomes": dict.fromkeys(OUTCOMES, 0)})
            region["bytes"] = max(region["bytes"], sizes[number]["bytes"])
            region["beside"] = region["beside"] or beside(sizes[number])
            region["trials"] += 1
            region["outcomes"][trial["outcome"]] += 1
    return [regions[number] for number in sorted(regions)]


def report_of(settings: Settings, trials: dict[int, Json], folder: str) -> Json:
    ordered = [trials[number] for number in sorted(trials)]
    summary = {"seed": settings.seed, "trials": settings.trials, "done": len(ordered),
               "complete": len(ordered) == settings.trials, "outcomes": counts(ordered), "output": folder}
    return {"version": VERSION, "settings": settings.json(), "summary": summary, "regions": by_region(ordered),
            "trials": [trial | {"command": settings.command(trial["trial"])} for trial in ordered]}


def legal(text: str) -> str:
    """Text without what XML can't have."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda found: f"\\x{ord(found[0]):02x}", text)


def junit_of(report: Json) -> str:
    trials, totals = report["trials"], report["summary"]["outcomes"]
    suite = xml.Element("testsuite", name=f"{NAME} drill", tests=str(len(trials)), errors="0",
                        failures=str(sum(totals[outcome] for outcome in FAILURES)),
                        skipped=str(sum(totals[outcome] for outcome in SKIPPED)))
    for trial in trials:
        name = f"trial {trial['trial']}" + (f": {where(trial)}" if trial["places"] else "")
        case = xml.SubElement(suite, "testcase", classname=legal(shlex.join(report["settings"]["program"])), name=name,
                              time=f"{trial['ended_after'] or trial['touched_after'] or 0:.3f}")
        kind = {"failure": FAILURES, "skipped": SKIPPED}
        for tag, outcomes in kind.items():
            if trial["outcome"] in outcomes:
                told = xml.SubElement(case, tag, message=legal(f"{trial['outcome']}: {trial['how']}"))
                told.text = legal(f"again: {trial['command']}")
        xml.SubElement(case, "system-out").text = legal(trial["output"])
    xml.indent(suite)
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def write_reports(path: Callable[[str], str], report: Json) -> None:
    """Each is whole, whenever this ends."""
    as_json = json.dumps(report, indent=1) + "\n"
    contents = {"report.json": as_json, "report.xml": junit_of(report), "report.html": page_of(report)}
    for name, content in contents.items():
        with open(path(f".{name}"), "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
        os.replace(path(f".{name}"), path(name))
