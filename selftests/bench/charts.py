# SPDX-License-Identifier: GPL-2.0-only

"""What the reports share: statistics, and plots."""

import math
import statistics


def spread(values):
    """Half the distance of the quartiles, in percent of the median."""
    if len(values) < 2:
        return 0
    low, median, high = statistics.quantiles(values, n=4)
    return 50 * (high - low) / median if median else 0


def short(n):
    for unit, letter in (1_000_000, "M"), (1_000, "k"):
        if n and n % unit == 0:
            return f"{n // unit}{letter}"
    return str(n)


def power(exponent, unit):
    return f"{10**exponent} {unit}" if exponent < 5 else f"1e{exponent} {unit}"


def plot(title, series, panels, columns, unit, own_scale=False):
    """An SVG plot of values over n, both logarithmic.

    `series` maps a key to its name and its colour; `panels` is a list of pairs: a title, and a map of each key to its list of
    (n, value). All have one scale for the values, or each its own.
    """
    width, height, left, top = 250, 180, 60, 70
    rows = math.ceil(len(panels) / columns)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width * columns + 10}" '
        f'height="{top + height * rows + 10}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="15">{title}</text>',
    ]
    for i, (name, colour) in enumerate(series.values()):
        svg.append(f'<rect x="{left + i * 230}" y="34" width="14" height="4" fill="{colour}"/>')
        svg.append(f'<text x="{left + 20 + i * 230}" y="40">{name}</text>')
    everything = [lines for _, lines in panels]
    for i, (name, lines) in enumerate(panels):
        scaled = [lines] if own_scale else everything
        values = [value for some in scaled for line in some.values() for _, value in line if value > 0]
        low, high = math.log10(min(values)), math.log10(max(values))
        if own_scale:
            low, high = math.floor(low), math.ceil(high + 0.01)
        sizes = sorted({n for line in lines.values() for n, _ in line})

        def place(n, value):
            across = math.log10(n / sizes[0]) / (math.log10(sizes[-1] / sizes[0]) or 1)
            up = (math.log10(value) - low) / (high - low or 1)
            return 10 + across * (width - (70 if own_scale else 40)), 20 + (1 - up) * (height - 50)

        right = width - (60 if own_scale else 30)
        svg.append(f'<g transform="translate({left + i % columns * width},{top + i // columns * height})">')
        svg.append(f'<text x="10" y="10" font-weight="bold">{name}</text>')
        for exponent in range(math.ceil(low), math.floor(high) + 1):
            _, y = place(sizes[0], 10**exponent)
            svg.append(f'<line x1="10" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            if own_scale or i % columns == 0:
                svg.append(f'<text x="4" y="{y + 4:.1f}" text-anchor="end">{power(exponent, unit)}</text>')
        for n in sizes:
            x, _ = place(n, 10**low)
            svg.append(f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle">{short(n)}</text>')
        for key, (_, colour) in series.items():
            points = [place(n, value) for n, value in lines.get(key, []) if value > 0]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            svg.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            svg += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        svg.append("</g>")
    svg.append("</svg>\n")
    return "\n".join(svg)
