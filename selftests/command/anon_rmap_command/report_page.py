# SPDX-License-Identifier: GPL-2.0-only
"""The page of a report: one file that needs nothing else. What programs have said is escaped."""

import shlex
import statistics
from html import escape
from typing import Iterable

from . import NAME, PAGE, Json
from .trials import OUTCOMES

# The colours of the outcomes, in light and in dark.
COLOURS = {
    "died": ("#c0362c", "#ff7b72"),
    "hung": ("#8a3fb0", "#d2a8ff"),
    "survived-wrong": ("#b35900", "#f0a04b"),
    "handled": ("#0b63ce", "#79b8ff"),
    "survived": ("#1a7f37", "#56d364"),
    "untouched": ("#8a929b", "#9aa4af"),
    "not-done": ("#4d5560", "#626b76"),
}
WIDTH = 960
# The map of a region has at most so many cells.
CELLS = 128
# The bars of the times end at these seconds; the last one has no end.
EDGES = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1.5rem; background: var(--page);
  color: var(--text); }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0; } .quiet { color: var(--quiet); }
code, pre { font: .85rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
pre { background: var(--box); border-radius: 6px; margin: .4rem 0; padding: .6rem .8rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: var(--quiet); } dd { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; }
th { color: var(--quiet); font-weight: 600; } .number { text-align: right; }
svg { display: block; min-width: 40rem; width: 100%; } svg text { fill: var(--text); font-size: 13px; }
.ends { color: var(--quiet); display: flex; font-size: .85rem; justify-content: space-between; min-width: 40rem; }
.mark { border-radius: 3px; display: inline-block; height: .8em; margin-right: .4em; width: .8em; }
.outcome { white-space: nowrap; } .region { margin-top: 1.2rem; } .ground { fill: var(--box); }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; } summary { cursor: pointer; }
"""
LIGHT = "--page: #fff; --text: #1c2128; --quiet: #59636e; --line: #d5dae0; --box: #eef1f4;"
DARK = "--page: #14181d; --text: #e3e8ee; --quiet: #a3adb8; --line: #343b44; --box: #232931;"


def style() -> str:
    def variables(palette: str, index: int) -> str:
        return palette + " ".join(f" --{name}: {colours[index]};" for name, colours in COLOURS.items())

    classes = "\n".join(f".{name} {{ background: var(--{name}); fill: var(--{name}); }}" for name in COLOURS)
    return (f":root {{ color-scheme: light dark; {variables(LIGHT, 0)} }}\n"
            f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK, 1)} }} }}{STYLE}{classes}\n")


def mark(outcome: str) -> str:
    return f'<span class="outcome"><span class="mark {outcome}"></span>{outcome}</span>'


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], numbers: Iterable[int] = ()) -> str:
    """A table of cells that are escaped already; of columns with these numbers, the cells are numbers."""
    right = set(numbers)

    def row(cells: Iterable[str], tag: str) -> str:
        written = [f'<{tag}{" class=number" if i in right else ""}>{cell}</{tag}>' for i, cell in enumerate(cells)]
        return f"<tr>{''.join(written)}</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    return f'<div class="wide"><table><thead>{row(heads, "th")}</thead><tbody>\n{body}\n</tbody></table></div>'


def size(number: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.4g} {name}"
    return f"{number} bytes"


def head(report: Json) -> str:
    settings, summary = report["settings"], report["summary"]
    rows = [("program", f"<code>{escape(shlex.join(settings['program']))}</code>"),
            ("trials", f"{summary['done']} of {summary['trials']}, seed {summary['seed']}"),
            ("pages", f"{settings['pages']} a trial, plan {escape(settings['plan'])}, in {escape(', '.join(settings['where']))}"
                      + (f", {settings['rate']:g} a second" if settings["rate"] else ""))]
    rows += [("memory", "moved onto the device while it runs, when it is ready")] if settings["attach"] else []
    rows += [(name, f"<code>{escape(settings[name])}</code>") for name in ("ready", "check") if settings[name]]
    rows += [("timeout", f"{settings['timeout']:g} s")]
    listed = "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    begun = "" if summary["complete"] else '<p>The campaign is not complete.</p>'
    return f"<h1>A drill of {escape(settings['program'][0])}</h1>{begun}<dl>\n{listed}\n</dl>"


def outcomes(report: Json) -> str:
    found = report["summary"]["outcomes"]
    rows = [(mark(outcome), str(found[outcome]), meaning) for outcome, meaning in OUTCOMES.items()]
    return "<h2>What became of it</h2>" + table(("outcome", "trials", "which means"), rows, {1})


def worst(outcomes_: Iterable[str]) -> str:
    order = list(OUTCOMES)
    return min(outcomes_, key=order.index)


def strip(region: Json, trials: list[Json]) -> str:
    """The pages of a region from its first to its last; where pages failed, in the colour of the worst that came of it."""
    pages = max(1, region["bytes"] // PAGE)
    cells = min(CELLS, pages)
    failed: dict[int, list[Json]] = {}
    for trial in trials:
        touched = {int(place["offset"], 16) // PAGE * cells // pages for place in trial["places"]
                   if place["region"] == region["region"]}
        for cell in touched:
            failed.setdefault(min(cell, cells - 1), []).append(trial)
    width = WIDTH / cells
    boxes = []
    for cell, there in sorted(failed.items()):
        told = escape("; ".join(f"trial {trial['trial']} {trial['outcome']}" for trial in there))
        boxes.append(f'<rect class="{worst(trial["outcome"] for trial in there)}" x="{cell * width:.2f}" y="0" '
                     f'width="{width:.2f}" height="24"><title>{told}</title></rect>')
    name = f", {escape(region['beside'])} is nearest" if region["beside"] else ""
    return (f'<div class="region">Region {region["region"]}: {size(region["bytes"])}{name}; pages failed in {region["trials"]} '
            f'trials</div><div class="wide"><svg viewBox="0 0 {WIDTH} 24" role="img" aria-label="region {region["region"]}">'
            f'<rect class="ground" width="{WIDTH}" height="24"></rect>\n' + "\n".join(boxes) +
            f'</svg><div class="ends"><span>0x0</span><span>{size(region["bytes"] // cells)} a cell</span>'
            f'<span>{region["bytes"]:#x}</span></div></div>')


def memory(report: Json) -> str:
    """The map."""
    if not report["regions"]:
        return "<h2>Memory</h2><p>No page has failed.</p>"
    strips = "\n".join(strip(region, report["trials"]) for region in report["regions"])
    return ("<h2>Memory</h2><p class=quiet>Each region from its first page to its last. A cell has the colour of the worst "
            f"that came of the trials there; regions are numbered as by <code>{NAME} list</code>.</p>{strips}")


def regions(report: Json) -> str:
    shown = [outcome for outcome in OUTCOMES if report["summary"]["outcomes"][outcome] and outcome != "not-done"]
    rows = [[str(region["region"]), size(region["bytes"]), escape(region["beside"] or "nothing"), str(region["trials"]),
             *(str(region["outcomes"][outcome]) for outcome in shown)] for region in report["regions"]]
    if not rows:
        return ""
    heads = ["region", "size", "nearest", "trials", *map(mark, shown)]
    return "<h2>By region</h2>" + table(heads, rows, {0, 1, *range(3, len(heads))})


def time_of(trial: Json) -> float | None:
    """Until it died; of those that did not, until it touched what had failed."""
    value: float | None = trial["ended_after" if trial["outcome"] == "died" else "touched_after"]
    return value


def bin_of(value: float) -> int:
    return sum(value >= edge for edge in EDGES)


def bars(times: dict[str, list[float]]) -> str:
    """How many trials took how long, the outcomes above each other."""
    most = max(sum(bin_of(value) == i for values in times.values() for value in values) for i in range(len(EDGES) + 1))
    step, top, height = WIDTH / (len(EDGES) + 1), 24, 160
    parts = []
    for i in range(len(EDGES) + 1):
        base, total = float(top + height), 0
        for outcome, values in times.items():
            number = sum(bin_of(value) == i for value in values)
            if number:
                base -= number * height / most
                total += number
                parts.append(f'<rect class="{outcome}" x="{i * step + 8:.1f}" y="{base:.1f}" width="{step - 16:.1f}" '
                             f'height="{number * height / most:.1f}"><title>{number} {outcome}</title></rect>')
        middle = f'x="{(i + 0.5) * step:.1f}" text-anchor="middle"'
        if total:
            parts.append(f'<text {middle} y="{base - 6:.1f}">{total}</text>')
        label = f"under {EDGES[i]:g} s" if i < len(EDGES) else f"{EDGES[-1]:g} s or more"
        parts.append(f'<text {middle} y="{top + height + 20}">{label}</text>')
    parts.append(f'<rect x="0" y="{top + height}" width="{WIDTH}" height="1" style="fill: var(--line)"></rect>')
    return (f'<div class="wide"><svg viewBox="0 0 {WIDTH} {top + height + 30}" role="img" aria-label="times">\n' +
            "\n".join(parts) + "</svg></div>")


def times(report: Json) -> str:
    found: dict[str, list[float]] = {}
    for trial in report["trials"]:
        value = time_of(trial)
        if value is not None and trial["outcome"] != "untouched":
            found.setdefault(trial["outcome"], []).append(value)
    if not found:
        return "<h2>Time</h2><p>No trial touched a page that had failed.</p>"
    ordered = {outcome: found[outcome] for outcome in OUTCOMES if outcome in found}
    spans = {outcome: (min(values), statistics.median(values), max(values)) for outcome, values in ordered.items()}
    rows = [(mark(outcome), str(len(ordered[outcome])), *(f"{value:.2f} s" for value in span)) for outcome, span in spans.items()]
    return ("<h2>Time</h2><p class=quiet>From the failure until the program died, or, of those that did not, until it touched "
            "the page.</p>" + bars(ordered) + table(("outcome", "trials", "least", "median", "most"), rows, {1, 2, 3, 4}))


def one_trial(trial: Json) -> str:
    places = ", ".join(f"region {place['region']} + {place['offset']}" for place in trial["places"]) or "none"
    said = f"<p class=quiet>Its last words:</p><pre>{escape(trial['output'])}</pre>" if trial["output"].strip() else ""
    touched = f"; touched after {trial['touched_after']:.2f} s" if trial["touched_after"] is not None else ""
    return (f"<details><summary>{trial['trial']}: {mark(trial['outcome'])}; {escape(trial['how'])}</summary>"
            f"<p>Pages that failed: {escape(places)}{touched}.</p><p class=quiet>Once more:</p>"
            f"<pre>{escape(trial['command'])}</pre>{said}</details>")


def page_of(report: Json) -> str:
    again = escape(shlex.join([NAME, "drill", "--output", report["summary"]["output"], "--trial", "N"]))
    parts = [head(report), outcomes(report), memory(report), regions(report), times(report), "<h2>Trials</h2>",
             f"<p class=quiet>Each has the command that chooses its pages again. At exactly the places where they were: "
             f"<code>{again}</code></p>", *map(one_trial, report["trials"])]
    title = escape(f"A drill of {report['settings']['program'][0]}")
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title>\n<style>\n{style()}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n")
