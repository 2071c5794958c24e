"""What minimal edits of sentences do to latents that tell classes apart, in both models.

The peak of a latent in a sentence is its largest activation over the sentence's tokens; an effect is the relative change of
the peak, (edited − original) / original. Latents are chosen on the split `fit`, whose sentences have nothing to do with the
edited ones: those that fire in the sentences of a class and in few others. Each edit stands beside a neutral one of the
same sentence.

Items that are filled from one template and are about one thing are no independent evidence: intervals leave out such
groups of items one after another, and the sign test counts in how many groups the edit lowers the peak more than the
neutral edit does. Groups are few, so that p is seldom small; how much more it lowers it, with its interval, says more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossseed.errors import UserError
from crossseed.joint.config import JointEvaluation
from crossseed.joint.sides import Sides, fired
from crossseed.joint.universality import universality
from crossseed.joint.upper import MODELS, Cache
from crossseed.metrics import Estimate, holm, jackknife, ranks

if TYPE_CHECKING:
    from crossseed.counterfactuals import Item

KINDS = ("original", "edited", "control")


class Latent(NamedTuple):
    """A latent that tells a class from the others.

    Attributes:
        label: name of the class. latent: number. r: correlation of both models on `eval`, over tokens.
        universal: whether it counts as such there. tells: by model, the chance that its peak in a sentence of the class exceeds
            that in another, on `fit` (area under the curve).
    """

    label: str
    latent: int
    r: float
    universal: bool
    tells: tuple[float, float]

    def columns(self) -> dict[str, Any]:
        """What tables say of it."""
        return {
            "class": self.label,
            "latent": self.latent,
            "r": self.r,
            "universal": int(self.universal),
            "tells_a": self.tells[0],
            "tells_b": self.tells[1],
        }


def peaks(sides: Sides, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """Largest activation of each latent in each example, of A and of B, (examples, latents)."""
    coded = cache.coded(sides[0].sae.config.special_tokens)
    found = tuple(np.zeros((len(cache), side.sae.n_latents), np.float32) for side in sides)
    for row in range(len(cache)):
        where = coded[row]
        if where.any():
            for peak, side in zip(found, sides, strict=True):
                h = cache.h[side.model][row][where].astype(np.float32)
                peak[row] = side.codes(h).max(axis=0)
    return found[0], found[1]


def areas(values_nf: np.ndarray, own_n: np.ndarray) -> np.ndarray:
    """Area under the curve of each column, (latents,), for the rows of a class, where `own_n` is true,
    against the others; 1/2 for constant ones."""
    n_own, n_other = int(own_n.sum()), int((~own_n).sum())
    rank_nf = ranks(values_nf.T).T
    found: np.ndarray = (rank_nf[own_n].sum(axis=0) - n_own * (n_own + 1) / 2) / (n_own * n_other)
    return found


def chosen(
    sides: Sides,
    fit: Cache,
    scored: Cache,
    classes: Sequence[str],
    wanted: int,
    config: JointEvaluation,
) -> list[Latent]:
    """The latents of each class that tell it best in the model in which they tell it worse.

    Args:
        fit: examples that they are chosen on, of those that fire there on enough tokens in both models.
        scored: of `eval`, for r, which decides nothing. wanted: latents a class, at most.

    Raises:
        UserError: no example of `fit` is of a class, or all are.
    """
    about = config.model_copy(update={"resamples": 0, "shifts": 0})
    agreement = universality(sides, scored, about)
    by_model = peaks(sides, fit)
    live = np.all(fired(sides, fit) >= config.active_tokens, axis=0)
    found = []
    for number, label in enumerate(classes):
        own = fit.labels == number
        if not own.any() or own.all():
            raise UserError(
                f"no sentence of fit is of class {label!r}, or all are; raise tokens.fit"
            )
        tells = np.stack([areas(peak, own) for peak in by_model])
        worse = np.where(live, tells.min(axis=0), -1.0)
        for latent in np.argsort(-worse, kind="stable")[:wanted]:
            if worse[latent] > 0.5:
                r = float(agreement.r_f[latent])
                both = (float(tells[0, latent]), float(tells[1, latent]))
                universal = bool(agreement.active_f[latent]) and r >= config.threshold
                found.append(Latent(label, int(latent), r, universal, both))
    return found


class Edited(NamedTuple):
    """Peaks of one item's sentences.

    Attributes:
        item: the sentences. peaks: by sentence of `KINDS` and model, of all latents, (latents,).
    """

    item: Item
    peaks: Mapping[str, tuple[np.ndarray, np.ndarray]]


def tried(latents: Sequence[Latent], items: Sequence[Edited]) -> Iterator[dict[str, Any]]:
    """A row for each latent, item of an edit that starts from its class, and model."""
    for latent in latents:
        for one in items:
            if one.item.before != latent.label:
                continue
            for model, name in enumerate(MODELS):
                peak = {kind: float(one.peaks[kind][model][latent.latent]) for kind in KINDS}
                before = peak["original"]
                silent = before == 0
                yield {
                    "class": latent.label,
                    "latent": latent.latent,
                    "edit": one.item.edit,
                    "after": one.item.after,
                    "model": name,
                    "item": one.item.number,
                    "group": one.item.group,
                    **{kind: getattr(one.item, kind) for kind in KINDS},
                    **{f"peak_{kind}": value for kind, value in peak.items()},
                    "effect": None if silent else (peak["edited"] - before) / before,
                    "effect_control": None if silent else (peak["control"] - before) / before,
                }


def sign_test(lower: int, higher: int) -> float:
    """Two-sided p of so many signs either way, were both as likely."""
    n, few = lower + higher, min(lower, higher)
    tail = sum(math.comb(n, k) for k in range(few + 1)) / 2**n
    return min(1.0, 2 * tail)


def over_groups(values_n: np.ndarray, group_n: np.ndarray) -> Estimate:
    """Mean over items, (items,), with its interval over groups of them; without one where there are fewer than three."""
    mean, groups = float(values_n.mean()), np.unique(group_n)
    if len(groups) < 2:
        return Estimate(mean)
    return jackknife(mean, np.array([values_n[group_n != one].mean() for one in groups]))


def summaries(latents: Sequence[Latent], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each latent, edit and model; items whose original leaves the latent silent have no effect and are counted.

    p is corrected among the edits that change the class, and among those that do not, which show what an edit does that
    means nothing.

    Args:
        rows: of `tried`.
    """
    tests: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for one in rows:
        test = tuple(one[key] for key in ("class", "latent", "edit", "after", "model"))
        tests.setdefault(test, []).append(one)
    by_latent = {(latent.label, latent.latent): latent for latent in latents}
    found = []
    for (label, number, edit, after, model), part in tests.items():
        latent = by_latent[label, number]
        loud = [one for one in part if one["effect"] is not None]
        values = {
            key: np.array([one[of] for one in loud], dtype=float)
            for key, of in (("effect", "effect"), ("control", "effect_control"))
        }
        values["difference"] = values["effect"] - values["control"]
        group_of = np.array([one["group"] for one in loud])
        groups = np.unique(group_of)
        row: dict[str, Any] = {
            **latent.columns(),
            "edit": edit,
            "after": after,
            "model": model,
            "items": len(part),
            "silent": len(part) - len(loud),
            "groups": len(groups),
        }
        for key, of in values.items():
            row |= {key: None, f"{key}_low": None, f"{key}_high": None}
            if len(of):
                mean = over_groups(of, group_of)
                row |= {key: mean.value, f"{key}_low": mean.low, f"{key}_high": mean.high}
        of_group = np.array([values["difference"][group_of == one].mean() for one in groups])
        for key, differences in (("", values["difference"]), ("groups_", of_group)):
            row[f"{key}lower"] = int((differences < 0).sum())
            row[f"{key}higher"] = int((differences > 0).sum())
        row["p"] = sign_test(row["groups_lower"], row["groups_higher"])
        found.append(row)
    for changes in (True, False):
        family = [row for row in found if (row["class"] != row["after"]) == changes]
        for row, corrected in zip(family, holm([row["p"] for row in family]).tolist(), strict=True):
            row["p_holm"] = corrected
    return found


def contexts(
    latents: Sequence[Latent], sides: Sides, cache: Cache, wanted: int
) -> Iterator[dict[str, Any]]:
    """The examples of a split in which each latent peaks highest, in each model.

    Yields:
        Rows with ``example`` and ``position`` in place of text.
    """
    by_model = peaks(sides, cache)
    coded = cache.coded(sides[0].sae.config.special_tokens)
    for latent in latents:
        for side, name, peak in zip(sides, MODELS, by_model, strict=True):
            order = np.argsort(-peak[:, latent.latent], kind="stable")[:wanted]
            for rank, row in enumerate(order, start=1):
                highest = float(peak[row, latent.latent])
                if highest == 0:
                    continue
                positions = np.flatnonzero(coded[row])
                h = cache.h[side.model][row][positions].astype(np.float32)
                at = int(side.codes(h)[:, latent.latent].argmax())
                yield {
                    **latent.columns(),
                    "model": name,
                    "rank": rank,
                    "peak": highest,
                    "example": int(row),
                    "position": int(positions[at]),
                }
