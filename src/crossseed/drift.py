"""Drift: how a member moves over training, and how far it is from its siblings.

Each member is compared with the reference checkpoint of its own seed (``checkpoint``) and with
the anchor at the same checkpoint (``seed``), unless that is itself. Both models of a pair run over the same tokens in
one process, and only d × d sums are kept, so activations of a sweep never lie on disk. The
published figure is one such cell (arXiv 2605.24577, section on checkpoints); here it becomes a
curve over checkpoints, sites and seeds, with its nulls in the same table.

Maps are fitted on `fit` and measured on `eval`. Arms: ``raw``, ``mean``, ``shuffled`` (fitted on
tokens exchanged within their position), ``procrustes``; ``haar`` is what a rotation drawn
uniformly at random gives in expectation; ``self`` is the other model's own activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments
from crossseed.cohorts.base import Member, TokenSet
from crossseed.errors import UserError
from crossseed.metrics import (
    ErrorSums,
    Estimate,
    FiringSums,
    LatentSums,
    estimate,
    mean_correlation,
    resample_weights,
    unit_blocks,
    unit_starts,
)
from crossseed.progress import Progress
from crossseed.published.transfer import svd_rotation
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.alignment.streaming import DeviceMoments

COLUMNS = (
    "cohort",
    "seed",
    "checkpoint",
    "site",
    "comparison",
    "other_seed",
    "other_checkpoint",
    "dictionary",
    "init",
    "arm",
    "metric",
    "value",
    "low",
    "high",
    "n_tokens",
)
COMPARISONS = ("checkpoint", "seed")
ARMS = ("raw", "mean", "shuffled", "procrustes")
# Tokens of a forward pass; blocks hold whole sequences.
BLOCK_TOKENS = 4096
RESAMPLES = 200
# Half of a 95 % interval of a standard normal.
NORMAL_95 = 1.959964


Row = tuple[str, str, Estimate]


class Fit(NamedTuple):
    """What was fitted between two models at one site.

    Attributes:
        arms: maps from the member into the other's frame.
        rows: (arm, metric, value) of the rotation, which needs no held-out token.
    """

    arms: dict[str, m.AffineMap]
    rows: list[Row]


class _FitSums:
    """Sums of one pair of models and one site over the `fit` split."""

    def __init__(self, widths: tuple[int, int], device: Any) -> None:
        from crossseed.alignment.streaming import DeviceMoments

        self.halves = (DeviceMoments(*widths, device), DeviceMoments(*widths, device))
        self.shuffled = DeviceMoments(*widths, device, cross_only=True)

    def add(self, a: Tensor, b: Tensor, odd: Tensor, order: Tensor) -> None:
        """Takes rows of both models, (tokens, width): those that `odd` marks, (tokens,), in the second half."""
        self.halves[0].add(a[~odd], b[~odd])
        self.halves[1].add(a[odd], b[odd])
        self.shuffled.add(a[order], b)

    def fit(self) -> Fit:
        """Maps by arm, and rows on the rotation."""
        halves = (self.halves[0].moments(), self.halves[1].moments())
        moments = halves[0].merged(halves[1])
        arms = m.arms(moments, self.shuffled.moments(), np.eye(len(moments.mean_b)))
        rows = rotation_rows(
            arms["procrustes"].matrix_dd,
            moments.cross_covariance,
            m.identified_directions(*halves),
        )
        return Fit({name: arms[name] for name in ARMS}, rows)


class Block(NamedTuple):
    """Whole sequences of a split, and the tokens in them that are read.

    Attributes:
        units: bootstrap units of the block. starts: first row of each within the block.
        tokens_nt, keep_nt: the sequences. document_n, position_n: of each row read.
    """

    units: slice
    starts: np.ndarray
    tokens_nt: np.ndarray
    keep_nt: np.ndarray
    document_n: np.ndarray
    position_n: np.ndarray


def blocks(found: TokenSet) -> Iterator[Block]:
    """A split cut into blocks of whole bootstrap units."""
    sequence, position = np.nonzero(found.keep_nt)
    document = found.document_n[sequence]
    starts = unit_starts(document)
    for units, rows, local in unit_blocks(starts, len(sequence), BLOCK_TOKENS):
        part = slice(int(sequence[rows.start]), int(sequence[rows.stop - 1]) + 1)
        yield Block(
            units, local, found.tokens_nt[part], found.keep_nt[part], document[rows], position[rows]
        )


def alignment_ev(affine: m.AffineMap, moments: Moments) -> float:
    """1 − Σ‖x̂ − a‖² / Σ‖a − ā‖² of a map of b, from second moments alone."""
    M = affine.matrix_dd
    offset = (moments.mean_b - affine.shift_in_d) @ M + affine.shift_out_d - moments.mean_a
    total = np.trace(moments.covariance_a)
    error = (
        np.sum((moments.covariance_b @ M) * M)
        - 2 * np.sum(M * moments.cross_covariance)
        + total
        + offset @ offset
    )
    return float(1 - error / total)


def haar_distance(d: int, k: int | None = None) -> Estimate:
    """‖R − I‖_F expected of a Haar rotation of d dimensions, and where 95 % of draws lie.

    Inside a fixed subspace of k dimensions it is ‖VᵀRV − I‖_F: E tr = 0, and the entries of
    VᵀRV have variance 1/d. The interval is that of the trace, N(0, k/d).
    """
    k = d if k is None else k
    square, spread = k * k / d + k, 2 * NORMAL_95 * np.sqrt(k / d)
    return Estimate(
        float(np.sqrt(square)),
        float(np.sqrt(max(square - spread, 0.0))),
        float(np.sqrt(square + spread)),
    )


def rotation_rows(
    rotation: np.ndarray, cross_covariance: np.ndarray, identified: np.ndarray
) -> list[Row]:
    """(arm, metric, value) of a fitted rotation.

    Args:
        rotation: (d, d).
        cross_covariance: that it was fitted to.
        identified: the directions in which the data decide it, as columns, (d, k).
    """
    d, k = identified.shape
    ranks = m.ranks(cross_covariance)
    # As the study has it, arbitrary where the activations do not decide: for the claims alone.
    printed = m.rotation_distance(svd_rotation(cross_covariance))
    rows = [
        ("procrustes", "rotation_distance", Estimate(m.rotation_distance(rotation))),
        ("procrustes", "rotation_distance_published", Estimate(printed)),
        ("haar", "rotation_distance", haar_distance(d)),
        ("procrustes", "det", Estimate(float(np.linalg.det(rotation)))),
        ("procrustes", "identified_rank", Estimate(float(k))),
        ("procrustes", "numerical_rank", Estimate(float(ranks.numerical))),
        ("procrustes", "effective_rank", Estimate(ranks.effective)),
    ]
    if k:  # else no direction is identified, and there is no distance to report
        distance = Estimate(m.rotation_distance(identified.T @ rotation @ identified))
        rows.append(("procrustes", "rotation_distance_identified", distance))
        rows.append(("haar", "rotation_distance_identified", haar_distance(d, k)))
    return rows


class _DictionarySums:
    """Sums of one dictionary of the other model, by arm."""

    def __init__(self, n_units: int, dictionary: Dictionary) -> None:
        width, n_latents = dictionary.W_enc.shape
        self.dictionary = dictionary
        self.errors = {arm: ErrorSums(n_units, width) for arm in ("self", *ARMS)}
        self.own = LatentSums(n_units, n_latents)
        self.firing = {arm: FiringSums(self.own) for arm in ARMS}

    def add(self, block: Block, a: np.ndarray, b: np.ndarray, arms: dict[str, m.AffineMap]) -> None:
        """Takes a block of own rows `a` and the other member's `b`, (tokens, width), as each arm maps them."""
        own = self.dictionary.encode(a)
        self.own.add(block.units, block.starts, own)
        for arm in ("self", *ARMS):
            x = a if arm == "self" else arms[arm](b)
            h = own if arm == "self" else self.dictionary.encode(x)
            self.errors[arm].add(block.units, block.starts, x, self.dictionary.decode(h))
            if arm != "self":
                self.firing[arm].add(block.units, block.starts, own, h)

    def rows(self, weights: np.ndarray) -> list[Row]:
        """Estimates by arm, under weights of the units as `estimate` takes them."""
        found: list[Row] = []
        for arm, errors in self.errors.items():
            found.append((arm, "ev", estimate(errors.ev(weights))))
            found.append((arm, "ev_published", estimate(errors.ev_published(weights))))
        for arm, firing in self.firing.items():
            found.append((arm, "firing_r", mean_correlation(firing.correlations(weights))))
        return found


def _kept(member: Member, block: Block, sites: Sequence[str]) -> dict[str, Tensor]:
    """Activations of the tokens that are read, float32, by site, each (tokens, width)."""
    import torch

    found = member.activations_on_device(block.tokens_nt, list(sites))
    kept = {}
    for site in sites:
        value = found.pop(site)
        mask = torch.from_numpy(block.keep_nt).to(value.device)
        kept[site] = value[mask].float()
        if not bool(torch.isfinite(kept[site]).all()):
            raise UserError(f"{site}: activations are not finite; check the model or its precision")
    return kept


def measure(
    members: Mapping[str, Member],
    sets: Mapping[str, TokenSet],
    sites: Sequence[str],
    dictionaries: Mapping[tuple[str, str, str], Dictionary],
    *cell: object,
) -> list[dict[str, Any]]:
    """Every metric of one member against its reference checkpoint and against the anchor.

    Args:
        members: ``member`` and, under the names of `COMPARISONS`, those it is compared with. One
            object that plays two roles runs once, and a member is not compared with itself.
        sets: token sets by split.
        sites: sites compared.
        dictionaries: those of the reference checkpoint by (site, name, init).
        cell: names the cell, for the random draws.

    Returns:
        Rows with keys site, comparison, dictionary, init, arm, metric, value, low, high, n_tokens.

    Raises:
        UserError: too few tokens to decide a rotation, or activations that are not finite.
    """
    import torch

    comparisons = [role for role in COMPARISONS if members[role] is not members["member"]]
    if not comparisons:
        return []
    widths = {site: members["member"].width(site) for site in sites}
    fit_tokens = int(sets["fit"].keep_nt.sum())
    if fit_tokens < 2 * max(widths.values()):
        raise UserError(
            f"{fit_tokens} tokens in the fit split cannot decide a rotation in "
            f"{max(widths.values())} dimensions; at least {2 * max(widths.values())} are needed"
        )
    for role in comparisons:
        for site in sites:
            if members[role].width(site) != widths[site]:
                raise UserError(
                    f"{site}: width {widths[site]}, but {members[role].width(site)} in the model it "
                    "is compared with; an orthogonal map needs equal widths"
                )
    if len(np.unique(sets["fit"].document_n % 2)) < 2:
        raise UserError(
            "the fit split holds one document, which has no halves; ask for more sequences "
            "(tokens.fit), or fewer of a document (tokens.most_a_document)"
        )
    n_sequences = sum(len(sets[split].tokens_nt) for split in ("fit", "eval"))
    progress = Progress("drift", n_sequences)
    done = 0
    rng = generator("drift-shuffle", *cell)
    sums: dict[tuple[str, str], _FitSums] = {}

    def forward(block: Block) -> dict[str, dict[str, Tensor]]:
        """Activations by role; a model that plays two roles runs once."""
        nonlocal done
        by_model = {id(model): model for model in members.values()}
        found = {key: _kept(model, block, sites) for key, model in by_model.items()}
        done += len(block.tokens_nt)
        progress.update(done, "sequences")
        return {role: found[id(model)] for role, model in members.items()}

    with torch.inference_mode():
        for block in blocks(sets["fit"]):
            acts = forward(block)
            odd_n = torch.from_numpy(block.document_n % 2 == 1)
            order_n = torch.from_numpy(m.shuffle_within_position(rng, block.position_n))
            for role in comparisons:
                for site in sites:
                    a, b = acts[role][site], acts["member"][site].to(acts[role][site].device)
                    key = (role, site)
                    if key not in sums:
                        sums[key] = _FitSums((a.shape[1], b.shape[1]), a.device)
                    sums[key].add(a, b, odd_n.to(a.device), order_n.to(a.device))
        # One by one, since the sums of all sites are what takes memory.
        fits = {key: sums.pop(key).fit() for key in list(sums)}

        sequence = np.nonzero(sets["eval"].keep_nt)[0]
        starts = unit_starts(sets["eval"].document_n[sequence])
        weights = resample_weights(generator("bootstrap", *cell), len(starts), RESAMPLES)
        held_out: dict[tuple[str, str], DeviceMoments] = {}
        carried = dictionaries if "checkpoint" in comparisons else {}
        tried = {key: _DictionarySums(len(starts), d) for key, d in carried.items()}
        for block in blocks(sets["eval"]):
            acts = forward(block)
            for role, site in fits:
                a, b = acts[role][site], acts["member"][site].to(acts[role][site].device)
                if (role, site) not in held_out:
                    held_out[role, site] = _empty_moments(a, b)
                held_out[role, site].add(a, b)
            for (site, *_), found in tried.items():
                own, other = (acts[role][site].cpu().numpy() for role in ("checkpoint", "member"))
                found.add(block, own, other, fits["checkpoint", site].arms)
    progress.close()

    rows = []
    for (role, site), fit in fits.items():
        moments = held_out.pop((role, site)).moments()
        evs = [
            (arm, "alignment_ev", Estimate(alignment_ev(affine, moments)))
            for arm, affine in fit.arms.items()
        ]
        for arm, metric, value in [*evs, *fit.rows]:
            rows.append(_row(site, role, "", "", arm, metric, value, len(sequence)))
    for (site, name, init), found in tried.items():
        for arm, metric, value in found.rows(weights):
            rows.append(_row(site, "checkpoint", name, init, arm, metric, value, len(sequence)))
    return rows


def _empty_moments(a: Tensor, b: Tensor) -> DeviceMoments:
    from crossseed.alignment.streaming import DeviceMoments

    return DeviceMoments(a.shape[1], b.shape[1], a.device)


def _row(
    site: str,
    comparison: str,
    dictionary: str,
    init: str,
    arm: str,
    metric: str,
    value: Estimate,
    n_tokens: int,
) -> dict[str, Any]:
    return {
        "site": site,
        "comparison": comparison,
        "dictionary": dictionary,
        "init": init,
        "arm": arm,
        "metric": metric,
        **value._asdict(),
        "n_tokens": n_tokens,
    }
