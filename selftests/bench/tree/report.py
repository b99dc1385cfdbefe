#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only

"""report.py DIR prints the tables of DIR/native.json and DIR/guest.json; writes DIR/tree.json, DIR/tree.svg and DIR/tree.md."""

import json
import pathlib
import statistics
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import charts

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
    return text if len(values) < 2 else f"{text} ±{charts.spread(values):.0f}%"


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


def plot(data):
    """Nanoseconds over n: a panel for each case and shape."""
    sizes = sorted({n for n, _, _ in data})
    series = {tree: (name, COLOURS[tree]) for tree, name in NAMES.items()}
    panels = [
        (f"{case}, {shape}", {tree: [(n, statistics.median(data[n, shape, case][tree])) for n in sizes] for tree in NAMES})
        for case in ["insert", "remove", "update", "stab"]
        for shape in SHAPES
    ]
    return charts.plot("Nanoseconds per operation over the number of intervals", series, panels, len(SHAPES), "ns")


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
