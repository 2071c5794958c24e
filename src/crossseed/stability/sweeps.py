"""Which dictionaries of a study differ in one aspect alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from crossseed.dictionary_names import parts_of


class Sweep(NamedTuple):
    """Attributes: label: of the axis. dictionaries: by what is varied, in order. numeric: whether that is a number."""

    label: str
    dictionaries: dict[Any, str]
    numeric: bool


# What a recipe is told apart by; what else it has follows from these or is of its architecture alone.
ASPECTS = {
    "expansion": "latents / width",
    "k": "k, latents a token",
    "training": "training tokens",
    "tied_init": "tied start",
    "architecture": "architecture",
}


def sweeps(recipes: Mapping[str, Mapping[str, Any]], names: list[str]) -> list[Sweep]:
    """Dictionaries that differ from one of them, the one with most of such neighbours, in one aspect alone.

    Args:
        recipes: by variant. names: of dictionaries, ``{variant}-x{expansion}``.
    """
    found = {name: _aspects(recipes, name) for name in names}

    def neighbours(base: str) -> dict[str, dict[Any, str]]:
        own: dict[str, dict[Any, str]] = {aspect: {found[base][aspect]: base} for aspect in ASPECTS}
        for name, aspects in found.items():
            differing = [a for a in ASPECTS if aspects[a] != found[base][a]]
            # An architecture without k has a penalty instead.
            if "architecture" in differing and aspects["k"] is None:
                differing = [a for a in differing if a != "k"]
            if len(differing) == 1:
                own[differing[0]].setdefault(aspects[differing[0]], name)
        return own

    best = max(names, key=lambda name: sum(len(of) - 1 for of in neighbours(name).values()))
    return [
        Sweep(
            ASPECTS[aspect],
            dict(sorted(of.items())) if numeric else of,
            numeric,
        )
        for aspect, of in neighbours(best).items()
        for numeric in [all(isinstance(value, int) for value in of) and aspect != "tied_init"]
        if len(of) > 1
    ]


def _aspects(recipes: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    variant, expansion = parts_of(name)
    recipe = recipes[variant]
    return {
        "expansion": int(expansion),
        "k": recipe.get("k"),
        "training": recipe["steps"] * recipe["batch_tokens"],
        "tied_init": recipe["tied_init"],
        "architecture": recipe["architecture"],
    }
