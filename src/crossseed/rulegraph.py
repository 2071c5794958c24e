"""The graph of the workflow's rules as one SVG, drawn from what `snakemake --rulegraph mermaid-js` prints.

Without Graphviz, without a network, and the same bytes for the same graph: rules stand in columns, each right of all that it
needs, and only edges that no longer path implies are drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from crossseed.errors import UserError

Graph = dict[str, set[str]]

# Rules of which there is one a cohort or dictionary, by how their names begin.
ONE_A_COHORT = ("train", "extract", "sae")
# Of a column, a line, and a box, in pixels.
COLUMN, LINE, WIDTH, HEIGHT = 148, 34, 104, 22
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


def columns(graph: Graph) -> list[list[str]]:
    """Rules by the longest path to them, each column ordered so that edges cross little."""
    depth: dict[str, int] = {}

    def deep(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((deep(need) for need in graph[name]), default=-1)
        return depth[name]

    found: list[list[str]] = [[] for _ in range(1 + max(map(deep, graph)))]
    for name in sorted(graph):
        found[depth[name]].append(name)
    readers: Graph = {name: {by for by, needs in graph.items() if name in needs} for name in graph}
    for sweep in range(SWEEPS):
        near = graph if sweep % 2 == 0 else readers
        for column in found if sweep % 2 == 0 else reversed(found):
            place = {name: (n + 0.5) / len(of) for of in found for n, name in enumerate(of)}
            column.sort(
                key=lambda name: (_mean([place[other] for other in near[name]], place[name]), name)
            )
    return found


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def svg(graph: Graph) -> str:
    """The drawing: data flows from left to right."""
    kept = reduced(graph)
    placed = columns(kept)
    tallest = max(map(len, placed))
    at = {
        name: (MARGIN + COLUMN * number, MARGIN + LINE * (row + (tallest - len(column)) / 2))
        for number, column in enumerate(placed)
        for row, name in enumerate(column)
    }
    width = 2 * MARGIN + COLUMN * (len(placed) - 1) + WIDTH
    height = 2 * MARGIN + LINE * (tallest - 1) + HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        "<title>Rules of the default run; an arrow leads from what is made to what needs it</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [_edge(at, need, name) for name in sorted(kept) for need in sorted(kept[name])]
    lines += [_box(name, *at[name]) for name in sorted(at)]
    return "\n".join([*lines, "</svg>", ""])


def _edge(at: Mapping[str, tuple[float, float]], need: str, name: str) -> str:
    x, y = at[need][0] + WIDTH, at[need][1] + HEIGHT / 2
    to_x, to_y = at[name][0], at[name][1] + HEIGHT / 2
    bend = (to_x - x) / 2
    return (
        f'<path d="M{x:g},{y:g} C{x + bend:g},{y:g} {to_x - bend:g},{to_y:g} {to_x:g},{to_y:g}" '
        'fill="none" stroke="#0072B2" stroke-opacity="0.45"/>'
    )


def _box(name: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#f4f7fa" stroke="#555555"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 15:g}" text-anchor="middle">{escape(name)}</text>'
    )
