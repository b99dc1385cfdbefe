#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only

"""report.py DIR prints the tables of DIR/native.json and DIR/guest.json; writes DIR/tree.json, DIR/tree.svg and DIR/tree.md."""

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


def ours_by_theirs(ours, theirs):
    return f"{ours / theirs:.2f}"


def theirs_by_ours(ours, theirs):
    return f"{theirs / ours:,.0f}"


def span(ratios):
    """The least and the greatest of some ratios."""
    low, high = ratios[0], ratios[-1]
    return low if low == high else f"{low}-{high}"


def ratio_table(ratio, cases, reference, data):
    """Ratios in Markdown: a line for each n, a column for each case; the ranges are those of the shapes."""
    rows = [["intervals", *cases]]
    for n in sorted({n for n, _, _ in data}):
        row = [f"{n:,}"]
        for case in cases:
            trees = [data[n, shape, case] for shape in SHAPES]
            medians = [[statistics.median(tree[key]) for key in ("ours", reference)] for tree in trees if reference in tree]
            medians.sort(key=lambda both: float(ratio(*both).replace(",", "")))
            row.append(span([ratio(*both) for both in medians]) if medians else "")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines) + "\n"


def summary(native, guest):
    updates = ["update", "move", "remove"]
    cases = ["stab", "insert", *updates]
    in_node = ratio_table(ours_by_theirs, [*cases, "memory"], "c_in_node", native)
    through_pointer = ratio_table(ours_by_theirs, cases, "c_through_pointer", native)
    kernel = ratio_table(ours_by_theirs, ["stab", "walk", "insert", *updates, "build"], "kernel_c", guest)
    linked = ratio_table(theirs_by_ours, ["stab"], "list", guest)
    return f"""Time of this tree divided by that of Linux's template, with the interval in the node:

{in_node}
With the interval through a pointer, as in an `anon_vma_chain`:

{through_pointer}
Instructions in the kernel divided by those of the kernel's `interval_tree_*`:

{kernel}
Instructions of a search in a linked list divided by those of this tree:

{linked}"""


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
    (directory / "tree.md").write_text(summary(native, guest))
    print("build/bench/tree.json: all figures; tree.md: ratios; tree.svg: the native ones as a plot")


main()
