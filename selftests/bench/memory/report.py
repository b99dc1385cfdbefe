#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only

"""report.py DIR [profile|check|keep] reads what the programs have printed (DIR/memory/*.json), prints a table, the worst first,
and writes DIR/bench.json, DIR/bench.md and DIR/bench.svg.

With `profile`, also DIR/profile.txt: in which functions the instructions went. With `keep`, the ratios go to ../figures.json and
nowhere else; with `check`, they are compared with those.
"""

import bisect
import collections
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import charts

KEPT = HERE.parent / "figures.json"
# What a ratio may be worse than the one that is kept.
MARGIN = 1.05
SERIES = {"ours": ("the device", "#0b6e4f"), "linux": ("anonymous memory", "#d1495b")}


class Measured:
    """What the programs have printed."""

    def __init__(self, directory):
        self.page = None
        self.cases = {}
        self.runs = collections.defaultdict(list)
        self.failures = []
        # The runs in their order, for the profile.
        self.order = []
        for name in "instructions", "threads":
            for line in (directory / f"{name}.json").read_text().splitlines():
                self.add(json.loads(line))
        if not self.runs:
            sys.exit("nothing was measured: what went wrong is above")

    def add(self, line):
        if "clear" in line:
            self.page = line
        elif "goal" in line:
            self.cases[line["case"]] = line
        else:
            self.order.append(line)
            if "failure" in line:
                self.failures.append(line)
            else:
                self.runs[line["case"], line["size"], line["device"]].append(line)

    def emulated(self, run):
        """What the emulator has counted for clearing and copying pages. Those that are copied were cleared before, if the allocator
        clears what it gives."""
        cleared = run["cleared"] + (run["copied"] if self.page["allocation_clears"] else 0)
        return cleared * self.page["clear"] + run["copied"] * self.page["copy"]

    def values(self, case, size, device):
        """A value of each run."""
        runs = self.runs[case, size, device]
        if self.cases[case]["figure"] == "scaling":
            # The host is busy with others at times: the least is what it takes.
            one = min(run["ns"] for run in self.runs[case, 1, device])
            return [min(run["ns"] for run in runs) / one]
        return [(run["counted"] - self.emulated(run)) / run["operations"] for run in runs]

    def sizes(self, case):
        """Those that were measured on both."""
        least = 2 if self.cases[case]["figure"] == "scaling" else 1
        sizes = {size for name, size, _ in self.runs if name == case and size >= least}
        return sorted(size for size in sizes if (case, size, True) in self.runs and (case, size, False) in self.runs)

    def net(self, profiled):
        """What an operation of a profiled run takes, without clearing and copying."""
        total, run = profiled
        return (sum(total.values()) - self.emulated(run)) / run["operations"]

    def total(self, run):
        return run["counted"] - self.emulated(run)

    def growth(self, case, device):
        """The exponent: the slope of all that was counted over the size, both logarithmic, by least squares."""
        if self.cases[case]["figure"] == "scaling":
            return None
        points = []
        for size in self.sizes(case):
            runs = self.runs[case, size, device]
            # Where one run does as many operations whatever the size is, this is its cost; else that of all operations.
            total = figure(self.cases[case], [self.total(run) for run in runs])
            points.append((math.log(size), math.log(max(1, total))))
        if len(points) < 3:
            return None
        mean_x, mean_y = (statistics.mean(values) for values in zip(*points))
        return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def figure(case, values):
    """What stands for some runs: the least number of instructions, as whatever else runs can only add to it; of bytes, to which
    others can add or leave some, the median."""
    return statistics.median(values) if case["unit"].startswith("bytes") else min(values)


def entries(measured):
    for name, case in measured.cases.items():
        for size in measured.sizes(name):
            ours, linux = (measured.values(name, size, device) for device in (True, False))
            a, b = figure(case, ours), figure(case, linux)
            yield {
                "case": name,
                "variant": f"{size} {case['of']}",
                "ours": round(a, 2),
                "linux": round(b, 2),
                "unit": case["unit"],
                # Of bytes beside a page, the difference is what matters: the page itself is in both.
                "ratio": round(a - b if case["figure"] == "difference" else a / b, 4),
                # Smaller ones show how it grows.
                "goal": case["goal"] if size >= case.get("goal_from", 0) else None,
                "size": size,
                "spread": round(max(charts.spread(ours), charts.spread(linux)), 1),
            }


def by_goal(entry):
    return entry["ratio"] / entry["goal"] if entry["goal"] else 0


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def exponent(value):
    return "" if value is None else f"{value:.2f}"


def table(measured, results):
    """Lines of a Markdown table, a case each."""
    by_case = collections.defaultdict(list)
    for entry in results:
        by_case[entry["case"]].append(entry)
    rows = []
    for name, entries in by_case.items():
        entries.sort(key=lambda entry: entry["size"])
        worst = max(entries, key=by_goal)
        spread = max(entry["spread"] for entry in entries)
        rows.append(
            (
                by_goal(worst),
                [
                    name,
                    f"{', '.join(charts.short(entry['size']) for entry in entries)} {measured.cases[name]['of']}",
                    " / ".join(number(entry["ratio"]) for entry in entries),
                    number(worst["goal"]),
                    number(by_goal(worst)),
                    f"{number(worst['ours'])} / {number(worst['linux'])} {worst['unit']}",
                    exponent(measured.growth(name, True)),
                    exponent(measured.growth(name, False)),
                    f"±{spread:.0f} %" if spread > 1 else "",
                ],
            )
        )
    rows.sort(key=lambda row: -row[0])
    head = ["case", "sizes", "ratio", "goal", "by goal", "worst: ours / Linux's", "grows", "Linux's", "spread"]
    lines = [head, *(row for _, row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(text) + "\n"


def plot(measured, results):
    """What all operations cost over the size, a panel for each case."""
    panels = []
    for name, case in measured.cases.items():
        if case["figure"] == "scaling":
            continue
        lines = {}
        for key, device in ("ours", True), ("linux", False):
            lines[key] = [
                (size, figure(case, [measured.total(run) for run in measured.runs[name, size, device]]))
                for size in measured.sizes(name)
            ]
        if any(value > 0 for line in lines.values() for _, value in line):
            panels.append((f"{name}, {case['of']}", lines))
    if not panels:
        return None
    return charts.plot(
        "Instructions (memory: bytes) of one run over its size", SERIES, panels, 5, "", own_scale=True
    )


class Symbols:
    """The kernel's functions by their addresses."""

    def __init__(self, path):
        symbols = []
        for line in path.read_text().splitlines():
            address, kind, name, *module = line.split()
            if kind in "tTwW":
                symbols.append((int(address, 16), name, module[0].strip("[]") if module else ""))
        symbols.sort()
        names = "\n".join(name for _, name, _ in symbols)
        readable = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True).stdout.splitlines()
        self.addresses = [address for address, _, _ in symbols]
        self.names = [
            (f"[{module}] " if module else "") + re.sub(r"\[[0-9a-f]{16}\]", "", name)
            for name, (_, _, module) in zip(readable, symbols)
        ]

    def at(self, address):
        return self.names[bisect.bisect_right(self.addresses, address) - 1] if address else "(the program)"


def profile(measured, directory):
    """In which functions the instructions of an operation went: of the greatest size of each case, by the last run."""
    symbols = Symbols(directory / "kallsyms")
    stretches = []
    for line in (directory / "stretches").read_text().splitlines():
        if line == "stretch":
            stretches.append(collections.Counter())
        else:
            address, count = line.split()
            stretches[-1][symbols.at(int(address, 16))] += int(count)
    # The program measures itself first.
    at = len(stretches) - sum(run["parts"] for run in measured.order)
    counted = {}
    for run in measured.order:
        total = sum(stretches[at : at + run["parts"]], collections.Counter())
        at += run["parts"]
        if "failure" not in run:
            counted[run["case"], run["size"], run["device"]] = (total, run)
    text = []
    for name, case in measured.cases.items():
        sizes = measured.sizes(name)
        if not sizes or (name, sizes[-1], True) not in counted:
            continue
        ours, linux = (counted[name, sizes[-1], device] for device in (True, False))
        if not ours[1]["parts"]:
            continue
        text.append(f"{name}, {sizes[-1]} {case['of']}: {case['unit']} in each function\n{'ours':>12} {'Linux':>12}")
        per = [{key: value / run["operations"] for key, value in total.items()} for total, run in (ours, linux)]
        text.append(f"{sum(per[0].values()):12,.1f} {sum(per[1].values()):12,.1f}  all")
        driver = sum(value for key, value in per[0].items() if key.startswith("[anon_rmap]"))
        text.append(f"{driver:12,.1f} {'':12}  the driver's own functions")
        floor = (measured.net(ours) - driver) / measured.net(linux)
        text.append(f"{floor:12,.2f} {'':12}  the ratio if these took nothing")
        for function in sorted(per[0].keys() | per[1].keys(), key=lambda f: -max(p.get(f, 0) for p in per))[:30]:
            text.append(f"{per[0].get(function, 0):12,.1f} {per[1].get(function, 0):12,.1f}  {function}")
        text.append("")
    return "\n".join(text)


def key(entry):
    return f"{entry['case']}, {entry['variant']}"


def check(results):
    """Whether no ratio is worse than the one that is kept."""
    kept = json.loads(KEPT.read_text())
    ok = True
    for entry in results:
        was = kept.get(key(entry))
        if was is None:
            print(f"{key(entry)}: no ratio is kept: selftests/bench/memory/run --keep", file=sys.stderr)
            ok = False
        elif entry["ratio"] > was * MARGIN:
            print(f"{key(entry)}: the ratio is {entry['ratio']}, {was} is kept", file=sys.stderr)
            ok = False
        elif entry["ratio"] * MARGIN < was:
            print(f"{key(entry)}: the ratio is {entry['ratio']}, better than {was}: selftests/bench/memory/run --keep", file=sys.stderr)
    for missing in kept.keys() - {key(entry) for entry in results}:
        print(f"{missing}: a ratio is kept, and was not measured", file=sys.stderr)
        ok = False
    return ok


def main():
    directory = pathlib.Path(sys.argv[1])
    mode = sys.argv[2] if len(sys.argv) > 2 else ""
    measured = Measured(directory / "memory")
    results = list(entries(measured))
    results.sort(key=by_goal, reverse=True)
    text = table(measured, results)
    print(text)
    for failure in measured.failures:
        kind = "the device" if failure["device"] else "anonymous memory"
        of = measured.cases[failure["case"]]["of"]
        print(f"FAILED {failure['case']}, {failure['size']} {of}, {kind}: {failure['failure']}", file=sys.stderr)
    ok = not measured.failures
    if mode == "check":
        ok &= check(results)
        print(f"check: {'no ratio is worse than kept' if ok else 'FAILED'}")
    elif mode == "keep" and ok:
        KEPT.write_text(json.dumps({key(entry): entry["ratio"] for entry in sorted(results, key=key)}, indent=1) + "\n")
        print(f"{KEPT.name}: {len(results)} ratios are kept")
    elif mode != "keep":
        (directory / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
        (directory / "bench.md").write_text(text)
        svg = plot(measured, results)
        if svg:
            (directory / "bench.svg").write_text(svg)
        print("build/bench/bench.json: all figures; bench.md: this table; bench.svg: growth over sizes")
    if mode == "profile":
        (directory / "profile.txt").write_text(profile(measured, directory / "memory"))
        print("build/bench/profile.txt: in which functions the instructions went")
    sys.exit(not ok)


main()
