"""Which latents are explained, and what is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.interpret.contexts import Firings
from crossseed.seeding import generator

Row = dict[str, Any]


class Latent(NamedTuple):
    """One latent of the first SAE.

    Attributes:
        number: in its SAE. found_in: SAEs that have it, its own among them. density: share of `eval` tokens it fires
            on. partner: latent of the second SAE that decoders pair it with. shared: whether the two count as one.
    """

    number: int
    found_in: int
    density: float
    partner: int
    shared: bool


class Settings(NamedTuple):
    """What the configuration says; see `crossseed.config.stability.InterpretStudy`."""

    latents: int
    tokens: int
    context: int
    train_examples: int
    test_examples: int
    least_windows: int
    order: int
    sides: str


class Read(NamedTuple):
    """One SAE's chosen latents in the windows of both splits."""

    train: Firings
    test: Firings


def drawn(latents: Sequence[Latent], n: int, least: float, *cell: object) -> list[Latent]:
    """At most n latents of each class, found in exactly 1, 2, … SAEs, of those that fire at least so often."""
    chosen: list[Latent] = []
    for k in sorted({latent.found_in for latent in latents}):
        of = [one for one in latents if one.found_in == k and one.density >= least]
        order = generator("interpret-latents", *cell, k).permutation(len(of))[:n]
        chosen += [of[i] for i in np.sort(order)]
    return chosen
