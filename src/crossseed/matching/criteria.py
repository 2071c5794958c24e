"""When two SAEs share a latent (arXiv 2501.16615), under names that say which of the definitions in use it is.

Latents are matched one to one by signed cosine, once by decoder directions and once by encoder directions.

    agree    both matchings give a latent the same partner
    dec      the cosine with the decoder's partner is above the threshold
    dual     that, and the cosine with the encoder's partner too, be it another latent (the published headline)
    strict   dual, and the two partners are one latent (what the study's text describes)
    max_cos  the largest cosine, of decoders and of encoders, is above the threshold: no matching

Comparisons are strict inequalities, as published.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossseed.matching import assignment
from crossseed.matching.assignment import Matching
from crossseed.metrics import unit_rows

AGREE, DEC, DUAL, STRICT, MAX_COS = "agree", "dec", "dual", "strict", "max_cos"
AT_A_THRESHOLD = (DEC, DUAL, STRICT, MAX_COS)
THRESHOLD = 0.7
# Rows of cosines at a time; in others, float32 rounds differently.
BLOCK_ROWS = 2048


class Directions(NamedTuple):
    """Unit rows of one dictionary; zeros where a latent has no direction.

    Attributes: decoder, encoder: (latents, width).
    """

    decoder: np.ndarray
    encoder: np.ndarray


class Compared(NamedTuple):
    """Two dictionaries, seen from the first.

    Attributes:
        decoder, encoder: the matchings. highest_decoder, highest_encoder: the largest cosine of each latent
            of the first with any of the second, (latents,).
    """

    decoder: Matching
    encoder: Matching
    highest_decoder: np.ndarray
    highest_encoder: np.ndarray

    def agree(self) -> np.ndarray:
        """True where both matchings give the same partner, (latents,)."""
        return matched(self.decoder, self.encoder, AGREE)

    def shared(self, criterion: str, threshold: float = THRESHOLD) -> np.ndarray:
        """True where a latent of the first is shared by a criterion of `AT_A_THRESHOLD`, or agrees, (latents,)."""
        if criterion == MAX_COS:
            found: np.ndarray = np.minimum(self.highest_decoder, self.highest_encoder) > threshold
            return found
        return matched(self.decoder, self.encoder, criterion, threshold)

    def pairs(self, criterion: str, threshold: float = THRESHOLD) -> np.ndarray:
        """Explicit pairs (latent of the first, of the second) that are shared, (pairs, 2).

        The partner is the decoder's, which for `STRICT` is the encoder's too.
        """
        first = np.flatnonzero(self.shared(criterion, threshold))
        return np.stack([first, self.decoder.partner[first]], axis=1)


def matched(
    decoder: Matching, encoder: Matching, criterion: str, threshold: float = THRESHOLD
) -> np.ndarray:
    """True where a latent is shared by a criterion that needs a matching, (latents,)."""
    agree: np.ndarray = decoder.partner == encoder.partner
    if criterion == AGREE:
        return agree
    above: np.ndarray = decoder.cosine > threshold
    if criterion in (DUAL, STRICT):
        above = above & (encoder.cosine > threshold)
    return above & agree if criterion == STRICT else above


def directions(decoder_fd: np.ndarray, encoder_df: np.ndarray) -> Directions:
    """Unit rows from the weights of a dictionary: decoder (latents, width), encoder (width, latents)."""
    return Directions(unit_rows(decoder_fd), unit_rows(encoder_df.T))


def random_directions(rng: np.random.Generator, n: int, width: int) -> Directions:
    """A dictionary of no model: independent directions of decoder and encoder. (With an encoder that is its decoder
    both matchings of two such dictionaries would be one, and `agree` 1.)"""
    drawn = (rng.standard_normal((n, width), dtype=np.float32) for _ in range(2))
    return Directions(*map(unit_rows, drawn))


def compare(first: Directions, second: Directions) -> Compared:
    """Both matchings of two dictionaries of the same shape."""
    decoder, encoder = (assignment.match(a, b) for a, b in zip(first, second, strict=True))
    return Compared(decoder, encoder, *(highest(a, b) for a, b in zip(first, second, strict=True)))


def highest(a_nd: np.ndarray, b_nd: np.ndarray) -> np.ndarray:
    """The largest cosine of each row of the first with any of the second, (n,)."""
    blocks = range(0, len(a_nd), BLOCK_ROWS)
    return np.concatenate([(a_nd[i : i + BLOCK_ROWS] @ b_nd.T).max(axis=1) for i in blocks])


def summary(
    found: Compared, among: np.ndarray | None = None, threshold: float = THRESHOLD
) -> dict[str, float]:
    """Shares and means over latents of the first.

    Args:
        among: latents that count, (latents,) of bool; all without it.

    Returns:
        ``agree``, the shares of `AT_A_THRESHOLD`, mean matched cosines (``pw_mcc``, that of
        decoders, and ``encoder_mcc``) and mean largest ones (``mmcs``, ``encoder_mmcs``).
    """
    chosen = slice(None) if among is None else among
    shares = {name: found.shared(name, threshold)[chosen] for name in (AGREE, *AT_A_THRESHOLD)}
    means = {
        "pw_mcc": found.decoder.cosine[chosen],
        "encoder_mcc": found.encoder.cosine[chosen],
        "mmcs": found.highest_decoder[chosen],
        "encoder_mmcs": found.highest_encoder[chosen],
    }
    return {
        name: float(values.mean()) if len(values) else float("nan")
        for name, values in {**shares, **means}.items()
    }
