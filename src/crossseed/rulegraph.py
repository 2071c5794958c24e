"""The graph of the workflow's rules as one SVG, drawn from what `snakemake --rulegraph mermaid-js` prints.

Without Graphviz, without a network, and the same bytes for the same graph: rules stand in columns, each right of all that it
needs, and only edges that no longer path implies are drawn. An edge that passes a column has a place of its own there, between
the boxes, which all edges of one rule share (layered drawing; Sugiyama, Tagawa and Toda, 1981).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from html import escape

from crossseed.errors import UserError

Graph = dict[str, set[str]]

# Rules of which there is one a cohort or dictionary, by how their names begin.
ONE_A_COHORT = ("train", "extract", "sae")
# Of a column and a box, of a place where edges pass, and between two of either, in pixels.
COLUMN, WIDTH, HEIGHT, PASSAGE, GAP = 158, 104, 24, 4, 12
MARGIN = 14
SWEEPS = 24
# Marks the place in a column where edges of a rule pass: `extract@3`.
PASSES = "@"


def parsed(text: str) -> Graph:
    """Each rule with those that it needs.

    Raises:
        UserError: the text holds no rule.
    """
    names = {
        number: _of_all_cohorts(name) for number, name in re.findall(r"(id\d+)\[(\w+)\]", text)
    }
    if not names:
        raise UserError(
            "standard input holds no graph of rules; pipe `snakemake --rulegraph mermaid-js` into this command"
        )
    found: Graph = {name: set() for name in names.values()}
    for needed, by in re.findall(r"(id\d+) --> (id\d+)", text):
        if names[needed] != names[by]:
            found[names[by]].add(names[needed])
    return found


def _of_all_cohorts(name: str) -> str:
    return next((rule for rule in ONE_A_COHORT if name.startswith(f"{rule}_")), name)


def reduced(graph: Graph) -> Graph:
    """The graph without edges that a longer path implies."""
    behind: Graph = {}

    def ancestors(name: str) -> set[str]:
        if name not in behind:
            behind[name] = set().union(*({need} | ancestors(need) for need in graph[name]))
        return behind[name]

    return {
        name: {need for need in needs if not any(need in ancestors(other) for other in needs)}
        for name, needs in graph.items()
    }


def deep(graph: Graph) -> dict[str, int]:
    """The longest path to each rule."""
    found: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((of(need) for need in graph[name]), default=-1)
        return found[name]

    for name in graph:
        of(name)
    return found


def stepwise(graph: Graph) -> tuple[Graph, dict[str, int]]:
    """The graph in which every edge leads to the next column, through places where it passes others; and all columns."""
    depth = deep(graph)
    found: Graph = {name: set() for name in graph}
    for name, needs in graph.items():
        for need in needs:
            last = need
            for column in range(depth[need] + 1, depth[name]):
                place = f"{need}{PASSES}{column}"
                found.setdefault(place, set()).add(last)
                depth[place] = column
                last = place
            found[name].add(last)
    return found, depth


def columns(graph: Graph) -> list[list[str]]:
    """Rules, and the places where edges pass, by column; each column ordered so that edges cross little."""
    steps, depth = stepwise(graph)
    found: list[list[str]] = [[] for _ in range(1 + max(depth.values()))]
    for name in sorted(steps):
        found[depth[name]].append(name)
    readers = _readers(steps)
    best, least = found, _crossings(found, steps)
    for sweep in range(SWEEPS):
        near = steps if sweep % 2 == 0 else readers
        found = [list(column) for column in found]
        for column in found if sweep % 2 == 0 else reversed(found):
            place = {name: (n + 0.5) / len(of) for of in found for n, name in enumerate(of)}
            column.sort(
                key=lambda name: (_mean([place[other] for other in near[name]], place[name]), name)
            )
        crossings = _crossings(found, steps)
        if crossings < least:
            best, least = found, crossings
    return best


def _readers(steps: Graph) -> Graph:
    return {name: {by for by, needs in steps.items() if name in needs} for name in steps}


def _crossings(found: list[list[str]], steps: Graph) -> int:
    place = {name: n for column in found for n, name in enumerate(column)}
    crossings = 0
    for column in found:
        edges = [(place[need], place[name]) for name in column for need in steps[name]]
        crossings += sum(a < c and b > d for a, b in edges for c, d in edges)
    return crossings


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def heights(placed: list[list[str]], steps: Graph) -> dict[str, float]:
    """The middle of every rule and place in its column, near to what it is joined with and apart from its neighbours."""
    readers = _readers(steps)
    at = {name: 0.0 for column in placed for name in column}
    for column in placed:
        for above, name in itertools.pairwise(column):
            at[name] = at[above] + _apart(above, name)
    for sweep in range(SWEEPS):
        for column in placed if sweep % 2 == 0 else reversed(placed):
            wanted = [
                _mean([at[other] for other in sorted(steps[name] | readers[name])], at[name])
                for name in column
            ]
            at.update(zip(column, _nearest(column, wanted), strict=True))
    top = min(at[name] - _tall(name) / 2 for name in at)
    return {name: round(MARGIN + at[name] - top) for name in at}


def _tall(name: str) -> int:
    return PASSAGE if PASSES in name else HEIGHT


def _apart(above: str, below: str) -> float:
    return (_tall(above) + _tall(below)) / 2 + GAP


def _nearest(column: list[str], wanted: list[float]) -> list[float]:
    """Heights in order and apart, nearest to the wanted ones in squares: isotonic regression by pooling neighbours."""
    offsets = [0.0]
    for above, below in itertools.pairwise(column):
        offsets.append(offsets[-1] + _apart(above, below))
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        pools.append((want - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    level = [value for value, n in pools for _ in range(n)]
    return [value + offset for value, offset in zip(level, offsets, strict=True)]


def svg(graph: Graph) -> str:
    """The drawing: data flows from left to right."""
    kept = reduced(graph)
    steps, depth = stepwise(kept)
    placed = columns(kept)
    middle = heights(placed, steps)
    at = {name: (MARGIN + COLUMN * depth[name], middle[name]) for name in steps}
    width = 2 * MARGIN + COLUMN * (len(placed) - 1) + WIDTH
    height = round(MARGIN + max(y + _tall(name) / 2 for name, (_, y) in at.items()))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        "<title>Rules of the default run; an arrow leads from what is made to what needs it</title>",
        '<defs><marker id="to" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0,0 L6,3 L0,6 Z" fill="#0072B2"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [_edge(at, need, name) for name in sorted(steps) for need in sorted(steps[name])]
    lines += [_passage(*at[name]) for name in sorted(at) if PASSES in name]
    lines += [_box(name, *at[name]) for name in sorted(at) if PASSES not in name]
    return "\n".join([*lines, "</svg>", ""])


STROKE = 'fill="none" stroke="#0072B2" stroke-width="1.1"'


def _edge(at: Mapping[str, tuple[float, float]], need: str, name: str) -> str:
    (x, y), (to_x, to_y) = at[need], at[name]
    x += WIDTH
    bend = (to_x - x) / 2
    ends = "" if PASSES in name else ' marker-end="url(#to)"'
    return (
        f'<path d="M{x:g},{y:g} C{x + bend:g},{y:g} {to_x - bend:g},{to_y:g} {to_x:g},{to_y:g}" '
        f"{STROKE}{ends}/>"
    )


def _passage(x: float, y: float) -> str:
    return f'<path d="M{x:g},{y:g} H{x + WIDTH:g}" {STROKE}/>'


def _box(name: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#f4f7fa" stroke="#555555"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 4:g}" text-anchor="middle">{escape(name)}</text>'
    )
