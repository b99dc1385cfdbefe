#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only

"""report.py DIR prints the tables of DIR/native.json and DIR/guest.json; writes DIR/tree.json and DIR/tree.svg."""

import json
import math
import pathlib
import statistics
import sys

CASES = ["insert", "remove", "update", "move", "stab", "walk", "build", "memory"]
SHAPES = ["disjoint", "nested", "shared"]
NAMES = {
    "ours": "this tree",
    "c_in_node": "Linux, interval in the node",
    "c_through_pointer": "Linux, interval through a pointer",
}
COLOURS = {"ours": "#0b6e4f", "c_in_node": "#d1495b", "c_through_pointer": "#8d6a9f"}


def samples(path, unit):
    """Maps (n, shape, case) to a map of each tree's samples."""
    result = {}
    for line in path.read_text().splitlines():
        sample = json.loads(line)
        key = sample["n"], sample["shape"], sample["case"]
        if sample["case"] == "memory" and sample["tree"] == "c_through_pointer":
            # That includes the VMA, which is not the tree's.
            continue
        result.setdefault(key, {}).setdefault(sample["tree"], []).append(sample[unit])
    if not result:
        sys.exit(f"{path}: no samples: did the benchmark run?")
    return dict(sorted(result.items(), key=lambda kv: (kv[0][0], CASES.index(kv[0][2]), SHAPES.index(kv[0][1]))))


def spread(values):
    """Half the distance of the quartiles, in percent of the median."""
    if len(values) < 2:
        return 0
    low, median, high = statistics.quantiles(values, n=4)
    return 50 * (high - low) / median


def print_table(title, references, data):
    print(title)
    print(f"{'n':>8} {'case':8} {'shape':9} {'ours':>10}", end="")
    for reference in references:
        print(f" {reference:>18} {'ratio':>6}", end="")
    print()
    for (n, shape, case), trees in data.items():
        ours = statistics.median(trees["ours"])
        print(f"{n:8} {case:8} {shape:9} {cell(trees['ours']):>10}", end="")
        for reference in references:
            if reference in trees:
                theirs = statistics.median(trees[reference])
                print(f" {cell(trees[reference]):>18} {ours / theirs:6.2f}", end="")
        print()
    print()


def cell(values):
    text = f"{statistics.median(values):.1f}"
    return text if len(values) < 2 else f"{text} ±{spread(values):.0f}%"


def entries(suite, unit, data):
    for (n, shape, case), trees in data.items():
        ours = statistics.median(trees["ours"])
        for reference, values in trees.items():
            if reference == "ours":
                continue
            theirs = statistics.median(values)
            yield {
                "suite": suite,
                "case": case,
                "shape": shape,
                "n": n,
                "reference": reference,
                "ours": round(ours, 2),
                "theirs": round(theirs, 2),
                "unit": unit,
                "ratio": round(ours / theirs, 4),
            }


def short(n):
    for unit, letter in (1_000_000, "M"), (1_000, "k"):
        if n % unit == 0:
            return f"{n // unit}{letter}"
    return str(n)


def plot(data):
    """Nanoseconds over n, both logarithmic: a panel for each case and shape."""
    cases = ["insert", "remove", "update", "stab"]
    width, height, left, top = 250, 180, 60, 70
    sizes = sorted({n for n, _, _ in data})
    values = [
        statistics.median(v) for (_, _, case), trees in data.items() if case in cases for v in trees.values()
    ]
    low, high = math.log10(min(values)), math.log10(max(values))

    def place(n, ns):
        across = math.log10(n / sizes[0]) / (math.log10(sizes[-1] / sizes[0]) or 1)
        up = (math.log10(ns) - low) / (high - low or 1)
        return 10 + across * (width - 40), 20 + (1 - up) * (height - 50)

    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width * 3 + 10}" '
        f'height="{top + height * len(cases) + 10}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="15">Nanoseconds per operation over the number of intervals</text>',
    ]
    for i, (tree, name) in enumerate(NAMES.items()):
        svg.append(f'<rect x="{left + i * 230}" y="34" width="14" height="4" fill="{COLOURS[tree]}"/>')
        svg.append(f'<text x="{left + 20 + i * 230}" y="40">{name}</text>')
    for row, case in enumerate(cases):
        for column, shape in enumerate(SHAPES):
            svg.append(f'<g transform="translate({left + column * width},{top + row * height})">')
            svg.append(f'<text x="10" y="10" font-weight="bold">{case}, {shape}</text>')
            for power in range(math.ceil(low), math.floor(high) + 1):
                _, y = place(sizes[0], 10**power)
                svg.append(f'<line x1="10" x2="{width - 30}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
                if column == 0:
                    svg.append(f'<text x="4" y="{y + 4:.1f}" text-anchor="end">{10**power} ns</text>')
            for n in sizes:
                x, _ = place(n, 10**low)
                svg.append(f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle">{short(n)}</text>')
            for tree, colour in COLOURS.items():
                points = [place(n, statistics.median(data[n, shape, case][tree])) for n in sizes]
                line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                svg.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
                svg += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
            svg.append("</g>")
    svg.append("</svg>\n")
    return "\n".join(svg)


def main():
    directory = pathlib.Path(sys.argv[1])
    native = samples(directory / "native.json", "ns")
    guest = samples(directory / "guest.json", "instructions")
    print_table(
        "native: nanoseconds per operation, median and half the quartile distance",
        ["c_in_node", "c_through_pointer"],
        native,
    )
    print_table("guest: instructions per operation", ["kernel_c", "list"], guest)
    result = [*entries("native", "ns", native), *entries("guest", "instructions", guest)]
    (directory / "tree.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "tree.svg").write_text(plot(native))
    print("build/bench/tree.json: all figures; build/bench/tree.svg: the native ones as a plot")


main()
