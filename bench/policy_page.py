# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The page of `./bench.sh policy`: a plot a metric (SVG in the page), the table, the claims of the
literature beside what was measured. Needs nothing from elsewhere."""

import html as markup
import math
import os
import pathlib
import platform

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 300, 70, 40, 14
COLOURS = {
    "towpath": "#0b6e4f", "self": "#6ab187", "plain": "#888888", "nftables": "#8b5fbf",
    "iptables-legacy": "#c1440e", "iptables-nft": "#e09f3e", "iptables-ct": "#335c67",
}  # fmt: skip

# What others have published; each is told with where it stands.
CLAIMS = (
    ("eBPF policies cost the same whatever their number, iptables' cost grows with each rule",
     "Bertrone et al., Accelerating Linux Security with eBPF iptables, SIGCOMM 2018 posters",
     "p50"),
    ("nftables with sets is flat as well, and costs about what a few rules cost",
     "Phil Sutter, Benchmarking nftables, Red Hat developer blog 2017", "p50"),
    ("with thousands of rules iptables loses most of its throughput",
     "Miano et al., Securing Linux with a faster and scalable iptables, SIGCOMM CCR 2019",
     "throughput"),
    ("changing one rule of a large iptables table takes as long as loading all of it",
     "Kubernetes SIG Network, kube-proxy nftables mode (KEP-3866)", "change"),
)  # fmt: skip

STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 76em; margin: 2em auto; padding: 0 1em; color: #222 }
figure { display: inline-block; margin: 0 1em 1.5em 0 } figcaption { font-weight: bold }
table { border-collapse: collapse } td, th { padding: .15em .7em; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums } svg text { font: 11px sans-serif }
"""


def series_of(rows, metric):
    """side → {policies: value}; both sides of each row say something."""
    series = {}
    for row in rows:
        if row["metric"] != metric:
            continue
        series.setdefault("towpath", {})[row["policies"]] = row["ours"]
        series.setdefault(row["peer"], {})[row["policies"]] = row["theirs"]
    return series


def ticks_log(low, high):
    return [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 10000 or abs(value) < 0.01:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.3g}"


def plot(rows, metric, unit, more):
    series = {name: points for name, points in series_of(rows, metric).items() if points}
    values = [v for points in series.values() for v in points.values() if v > 0]
    sizes = sorted({size for points in series.values() for size in points})
    if not values or len(sizes) < 2:
        return ""
    ticks = ticks_log(min(values), max(values) * 1.01)
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])

    def x(size):
        return LEFT + (WIDTH - LEFT - 130) * sizes.index(size) / (len(sizes) - 1)

    def y(value):
        part = (math.log10(max(value, ticks[0])) - low) / ((high - low) or 1)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
             f'role="img" aria-label="{metric} by number of policies">']  # fmt: skip
    for tick in ticks:
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 130}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
                     f'stroke="#ddd"/><text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" '
                     f'text-anchor="end">{number(tick)}</text>')  # fmt: skip
    for size in sizes:
        parts.append(f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 16}" '
                     f'text-anchor="middle">{size:,}</text>')  # fmt: skip
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">policies in force</text>')
    ends = sorted(((y(points[max(points)]), name) for name, points in series.items()))
    label_y = -99.0
    for end_y, name in ends:
        points, colour = series[name], COLOURS.get(name, "#000")
        line = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in sorted(points.items()))
        width = 3 if name == "towpath" else 1.5
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" '
                     f'points="{line}"/>')  # fmt: skip
        label_y = max(end_y + 4, label_y + 12)
        parts.append(f'<text x="{WIDTH - 124}" y="{label_y:.1f}" fill="{colour}">{name}</text>')
    parts.append("</svg>")
    better = "more is better" if more else "less is better"
    return f"<figure>{''.join(parts)}<figcaption>{metric} ({unit}; {better})</figcaption></figure>"


def machine():
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def table(rows):
    out = ["<table><tr><th>metric<th>policies<th>peer<th>ours<th>theirs<th>unit<th>ours / theirs</tr>"]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        out.append(
            f"<tr><td>{row['metric']}<td class=n>{row['policies']:,}<td>{row['peer']}"
            f"<td class=n>{number(row['ours'])}<td class=n>{number(row['theirs'])}"
            f"<td>{row['unit']}<td class=n>{ratio}</tr>"
        )
    return "\n".join(out) + "</table>"


def measured(rows, metric):
    """The largest number of policies: what each side came to."""
    size = max((r["policies"] for r in rows if r["metric"] == metric), default=None)
    if size is None:
        return "not measured"
    unit = next(r["unit"] for r in rows if r["metric"] == metric)
    values = {name: points[size] for name, points in series_of(rows, metric).items() if size in points}
    return f"{metric} at {size:,}: " + ", ".join(f"{n} {number(v)} {unit}" for n, v in values.items())


def claims(rows):
    lines = ["<table><tr><th>published<th>where<th>measured here</tr>"]
    for text, where, metric in CLAIMS:
        lines.append("<tr>" + "".join(f"<td>{markup.escape(t)}" for t in
                                      (text, where, measured(rows, metric))) + "</tr>")  # fmt: skip
    return "\n".join(lines) + "</table>"


def html(rows, metrics):
    plots = "\n".join(plot(rows, name, *about) for name, about in metrics.items())
    return f"""<!DOCTYPE html>
<!-- SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only -->
<html lang="en"><meta charset="utf-8"><title>Towpath: what policies cost</title>
<style>{STYLE}</style>
<h1>What policies cost</h1>
<p>./bench.sh policy on {markup.escape(machine())}. Two containers; a third of the policies differ by
port, a third by CIDR, a third by pod; the one that matches comes last. Medians of interleaved
rounds; both axes by powers of ten.</p>
{plots}
<h2>What is said elsewhere</h2>
{claims(rows)}
<h2>All figures</h2>
{table(rows)}
</html>
"""
