"""How joint SAEs, or two of their own, encode both models, and which latents they pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from crossseed.alignment.maps import AffineMap
from crossseed.errors import UserError, at
from crossseed.joint.model import JointSAE, recarried
from crossseed.joint.upper import Cache
from crossseed.matching import assignment
from crossseed.metrics import sum_units, unit_of
from crossseed.stability.firing import Correlations

BLOCK_TOKENS = 4096


class Side(NamedTuple):
    """How one model's activations become latents.

    Attributes:
        sae: that encodes. model: 0 for A, 1 for B.
    """

    sae: JointSAE
    model: int

    def codes(self, h_nd: np.ndarray) -> np.ndarray:
        """Latents of native activations, (tokens, width) to (tokens, latents)."""
        h = torch.from_numpy(h_nd).to(self.sae.device)
        found: np.ndarray = self.sae.codes_of(h, self.model).dense().detach().cpu().numpy()
        return found


Sides = tuple[Side, Side]


def joint_sides(sae: JointSAE) -> Sides:
    """Both models of one joint SAE."""
    return Side(sae, 0), Side(sae, 1)


def condition_sides(condition: str, sae_a: JointSAE, sae_b: JointSAE, carried: AffineMap) -> Sides:
    """How conditions 1, 2, 3 and 3' encode, from the independent SAEs of A and of B.

    Args:
        condition: ``1`` and ``2`` each SAE its own model; ``3`` B's SAE what W carries over, as the study has it, an
            input that it has never seen; ``3'`` A's SAE what W carries over.
        carried: W.

    Raises:
        UserError: the condition is none of these.
    """
    if condition in ("1", "2"):
        return Side(sae_a, 0), Side(sae_b, 1)
    if condition == "3":
        return Side(sae_a, 0), Side(recarried(sae_b, carried), 1)
    if condition == "3'":
        return Side(sae_a, 0), Side(recarried(sae_a, carried, 1), 1)
    raise UserError(f"condition {condition} has no independent SAEs; expected 1, 2, 3 or 3'")


class Block(NamedTuple):
    """Latents of consecutive rows of both models.

    Attributes:
        units: the units they belong to. starts: first row of each of these in the block.
        a_nf, b_nf: (rows, latents).
        elsewhere_nf: B's in rows of other tokens, half a block away; None where they are not asked for.
    """

    units: slice
    starts: np.ndarray
    a_nf: np.ndarray
    b_nf: np.ndarray
    elsewhere_nf: np.ndarray | None


def blocks(
    sides: Sides,
    cache: Cache,
    pooled: bool = False,
    elsewhere: bool = False,
) -> Iterator[Block]:
    """A split in blocks of whole examples, of about so many coded tokens.

    Args:
        sides: how each model is encoded. pooled: rows are examples, by the mean over their tokens.
        elsewhere: whether B's latents are wanted at other tokens too, those that `Correlations.null` is of.

    Raises:
        UserError: an example holds special tokens alone, which are left out.
    """
    special = sides[0].sae.config.special_tokens
    coded = cache.coded(special)
    lengths = coded.sum(axis=1)
    if not lengths.all():
        said = "an example has nothing but special tokens; set special_tokens to true"
        raise UserError(at(cache.where, said))
    unit = unit_of(cache.document)
    for part in cache.parts(special, BLOCK_TOKENS):
        found = [
            side.codes(cache.h[side.model][part][coded[part]].astype(np.float32)) for side in sides
        ]
        if elsewhere:
            # Before tokens are pooled: matching is on tokens.
            found.append(np.roll(found[1], len(found[1]) // 2, axis=0))
        of_row = unit[part] if pooled else np.repeat(unit[part], lengths[part])
        if pooled:
            begins = np.r_[0, np.cumsum(lengths[part])[:-1]]
            found = [(sum_units(h, begins) / lengths[part, None]).astype(np.float32) for h in found]
        yield Block(
            slice(int(of_row[0]), int(of_row[-1]) + 1),
            np.flatnonzero(np.r_[True, of_row[1:] != of_row[:-1]]),
            found[0],
            found[1],
            found[2] if elsewhere else None,
        )


def correlations(sides: Sides, cache: Cache) -> Correlations:
    """Sums behind the correlation of every latent of A with every latent of B."""
    found = Correlations(2, sides[0].sae.n_latents)
    for block in blocks(sides, cache):
        found.add((block.a_nf, block.b_nf))
    return found


def fired(sides: Sides, cache: Cache) -> np.ndarray:
    """On how many coded tokens of a split each latent fires, in A and in B, (2, latents)."""
    found = np.zeros((2, sides[0].sae.n_latents))
    for block in blocks(sides, cache):
        for count, h in zip(found, (block.a_nf, block.b_nf), strict=True):
            count += (h > 0).sum(axis=0)
    return found


class Pairing(NamedTuple):
    """B's latent for each of A's, one to one, (latents,).

    Attributes:
        partner: with the largest sum of correlations; dead ones correlate by 0.
        null: the same where A's tokens are matched with other tokens of B.
    """

    partner: np.ndarray
    null: np.ndarray


def matched(found: Correlations) -> Pairing:
    """Latents matched on a split.

    Fitted on the split `fit` and scored on `eval` this is condition 2 or 3; fitted on `eval` too it is their in-sample
    variant, in which chance matches correlate.
    """
    return Pairing(*(assignment.dense(r).partner for r in (found.between(0, 1), found.null())))


def decoders(sides: Sides, partner: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Unit decoder rows of A, and of B in the order of A's partners, (latents, width) each."""
    a, b = (side.sae.decoder_of(side.model) for side in sides)
    return a, b if partner is None else b[partner]
