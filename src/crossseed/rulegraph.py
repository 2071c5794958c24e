"""The graph of the workflow's rules as one SVG, drawn from what `snakemake --rulegraph mermaid-js` prints.

Without Graphviz, without a network, and the same bytes for the same graph: rules stand in columns, each right of all that it
needs, and only edges that no longer path implies are drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from crossseed.errors import UserError

Graph = dict[str, set[str]]


class Lane(NamedTuple):
    """Room in a column for what passes on its way to a rule."""

    to: str
    column: int


Place = str | Lane

# Rules of which there is one a cohort or dictionary, by how their names begin.
ONE_A_COHORT = ("train", "extract", "sae")
# Of a column, a line of it, a lane between lines, and a box, in pixels.
COLUMN, LINE, LANE, WIDTH, HEIGHT = 168, 34, 14, 104, 22
MARGIN = 12
SWEEPS = 12


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


def depths(graph: Graph) -> dict[str, int]:
    """The length of the longest path to each rule."""
    found: dict[str, int] = {}

    def deep(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((deep(need) for need in graph[name]), default=-1)
        return found[name]

    for name in graph:
        deep(name)
    return found


def with_lanes(graph: Graph, depth: Mapping[str, int]) -> dict[Place, set[Place]]:
    """The graph with a lane in each column that an edge passes; edges to one rule share theirs."""
    found: dict[Place, set[Place]] = {name: set() for name in graph}
    for name, needs in graph.items():
        for need in needs:
            before: Place = need
            for column in range(depth[need] + 1, depth[name]):
                lane = Lane(name, column)
                found.setdefault(lane, set()).add(before)
                before = lane
            found[name].add(before)
    return found


def columns(graph: Mapping[Place, set[Place]], depth: Mapping[str, int]) -> list[list[Place]]:
    """Rules and lanes by column, each ordered so that edges cross little."""
    found: list[list[Place]] = [[] for _ in range(1 + max(depth.values()))]
    for place in sorted(graph, key=str):
        found[place.column if isinstance(place, Lane) else depth[place]].append(place)
    readers = {place: {by for by, needs in graph.items() if place in needs} for place in graph}
    for sweep in range(SWEEPS):
        near = graph if sweep % 2 == 0 else readers
        for column in found if sweep % 2 == 0 else reversed(found):
            at = {place: (n + 0.5) / len(of) for of in found for n, place in enumerate(of)}
            column.sort(
                key=lambda place: (
                    _mean([at[other] for other in near[place]], at[place]),
                    str(place),
                )
            )
    return found


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def svg(graph: Graph) -> str:
    """The drawing: data flows from left to right, and past boxes in lanes between them."""
    kept = reduced(graph)
    depth = depths(kept)
    laned = with_lanes(kept, depth)
    placed = columns(laned, depth)
    tall = [sum(map(_height, column)) for column in placed]
    at: dict[Place, tuple[float, float]] = {}
    for number, column in enumerate(placed):
        y = MARGIN + (max(tall) - tall[number]) / 2
        for place in column:
            at[place] = (MARGIN + COLUMN * number, y + _height(place) / 2)
            y += _height(place)
    width = 2 * MARGIN + COLUMN * (len(placed) - 1) + WIDTH
    height = 2 * MARGIN + max(tall)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        "<title>Rules of the default run; an arrow leads from what is made to what needs it</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    edges = [
        (need, place) for place in sorted(laned, key=str) for need in sorted(laned[place], key=str)
    ]
    lines += [_edge(at[need], at[place]) for need, place in edges]
    lines += [_through(*at[place]) for place in sorted(at, key=str) if isinstance(place, Lane)]
    lines += [_box(place, *at[place]) for place in sorted(at, key=str) if isinstance(place, str)]
    return "\n".join([*lines, "</svg>", ""])


def _height(place: Place) -> int:
    return LANE if isinstance(place, Lane) else LINE


def _line(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="#0072B2" stroke-opacity="0.45"/>'


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = start, end
    x += WIDTH
    bend = (to_x - x) / 2
    return _line(f"M{x:g},{y:g} C{x + bend:g},{y:g} {to_x - bend:g},{to_y:g} {to_x:g},{to_y:g}")


def _through(x: float, y: float) -> str:
    return _line(f"M{x:g},{y:g} H{x + WIDTH:g}")


def _box(name: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#f4f7fa" stroke="#555555"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 4:g}" text-anchor="middle">{escape(name)}</text>'
    )
