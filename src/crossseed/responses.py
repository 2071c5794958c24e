"""What steering does to a model's predictions: on trials that score it, and on other text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.base import (
    FORWARD_TOKENS,
    Concept,
    Subject,
    TokenSet,
    batches,
)
from crossseed.errors import UserError
from crossseed.predictions import Predictions
from crossseed.steering import DOSES, MEASURES


class Responses(NamedTuple):
    """What trials say under some directions and doses, summed over the scored positions of each sequence.

    Attributes:
        n_u: scored positions of each sequence.
        moved: change of each measure, (directions, doses, measures, sequences).
        intended, old: predictions that are of the intended or of the old class, (directions, doses,
            sequences); clean: the same without steering, (2, sequences).
        slopes: Σ α Δ(mean centred logits) / Σ α² of each direction, (directions, classes of all heads).
        right: published positions predicted rightly, (directions, doses, sequences), clean first among
            the doses; None where nothing is published. right_n: how many there are of each sequence.
    """

    n_u: np.ndarray
    moved: np.ndarray
    intended: np.ndarray
    old: np.ndarray
    clean: np.ndarray
    slopes: np.ndarray
    right: np.ndarray | None
    right_n: np.ndarray


def responses(
    subject: Subject,
    site: str,
    concept: Concept,
    vectors: np.ndarray,
) -> Responses:
    """How a model's predictions move along some vectors, (directions, width), each of the length that
    dose 1 stands for."""
    trials = concept.trials
    n, length = trials.tokens_nt.shape
    at = trials.at_nt
    about = concept.published
    either = at if about is None else at | about.at_nt
    which = subject.heads.index(trials.head)
    m, doses = len(vectors), np.array(DOSES)
    moved = np.zeros((m, len(doses), len(MEASURES), n))
    hits = np.zeros((2, m, len(doses), n))
    clean_hits = np.zeros((2, n))
    right = None if about is None else np.zeros((m, 1 + len(doses), n))
    slopes: Tensor | None = None
    rows_before = np.r_[0, np.cumsum(at.sum(axis=1))]
    published_before = None if about is None else np.r_[0, np.cumsum(about.at_nt.sum(axis=1))]
    size = max(1, FORWARD_TOKENS // length)
    for part in batches(n, size):
        tokens = trials.tokens_nt[part]
        if not either[part].any():
            continue
        start = subject.start(tokens, site)
        own = start.value_ntd.float()
        rows = slice(rows_before[part.start], rows_before[part.stop])
        scorer = _Scorer(
            at[part], either[part], trials.intended[rows], trials.old[rows], own.device
        )
        clean_heads = start.logits(own, either[part])
        (clean,) = clean_heads[which]
        before = scorer.measures(clean[None])
        clean_hits[:, part] = scorer.by_sequence(scorer.hits(clean[None]))[:, 0]
        if about is not None and right is not None and published_before is not None:
            found = slice(published_before[part.start], published_before[part.stop])
            scorer.publish(about.at_nt[part], about.label_n[found])
            right[:, 0, part] = scorer.right(clean[None])
        alongside = max(1, FORWARD_TOKENS // (len(tokens) * length))
        changes = [(i, j) for i in range(m) for j in range(len(doses))]
        for group in batches(len(changes), alongside):
            index = np.array(changes[group])
            steps = doses[index[:, 1]][:, None] * vectors[index[:, 0]]
            change = torch.from_numpy(steps.astype(np.float32)).to(own.device)
            steered = (own[None] + change[:, None, None]).flatten(0, 1)
            heads = start.logits(steered, either[part])
            logits = heads[which]
            i, j = index.T
            moved[i, j, :, part] = scorer.by_sequence(scorer.measures(logits) - before).transpose(
                1, 0, 2
            )
            hits[:, i, j, part] = scorer.by_sequence(scorer.hits(logits))
            if right is not None:
                right[i, 1 + j, part] = scorer.right(logits)
            shifts = scorer.effect(heads) - scorer.effect(clean_heads)
            if slopes is None:
                slopes = torch.zeros(m, shifts.shape[-1], device=shifts.device)
            dose = torch.from_numpy(doses[j].astype(np.float32)).to(shifts.device)
            slopes.index_add_(0, torch.from_numpy(i).to(shifts.device), dose[:, None] * shifts)
    if slopes is None:
        raise UserError(
            f"concept {concept.name}: no position of the trials can be scored; draw more or longer "
            "sequences, or leave the concept out"
        )
    effects = slopes / (int(at.sum()) * float(np.sum(doses**2)))
    return Responses(
        at.sum(axis=1).astype(float),
        moved,
        hits[0],
        hits[1],
        clean_hits,
        effects.double().cpu().numpy(),
        right,
        np.zeros(n) if about is None else about.at_nt.sum(axis=1).astype(float),
    )


class _Scorer:
    """Scores logits at the positions of some trials.

    Args:
        at_nt: positions scored. either_nt: positions that logits are given for, those among them.
        intended, old: classes of each scored position.
    """

    def __init__(
        self,
        at_nt: np.ndarray,
        either_nt: np.ndarray,
        intended: np.ndarray,
        old: np.ndarray,
        device: torch.device,
    ) -> None:
        self.device, self.either = device, either_nt
        self.n = len(at_nt)
        self.scored = torch.from_numpy(at_nt[either_nt]).to(device)
        self.sequence = np.nonzero(at_nt)[0]
        self.intended = torch.from_numpy(intended).to(device)
        self.old = torch.from_numpy(old).to(device)

    def measures(self, logits: Tensor) -> Tensor:
        """`MEASURES` at each scored position, (measures, changes, scored)."""
        logits = logits[:, self.scored]
        sums, counts = [], []
        for index in (self.intended, self.old):
            picked = logits.gather(-1, index[None].expand(len(logits), -1, -1))
            sums.append(picked.sum(-1))
            counts.append(index.shape[1])
        rest = logits.shape[-1] - sum(counts)
        intended, old = (total / count for total, count in zip(sums, counts, strict=True))
        if rest:
            control = (logits.sum(-1) - sum(sums)) / rest
            return torch.stack([intended - control, control - old, intended - old])
        nothing = torch.full_like(intended, torch.nan)
        return torch.stack([nothing, nothing, intended - old])

    def hits(self, logits: Tensor) -> Tensor:
        """Whether the prediction is of the intended and of the old class, (2, changes, scored)."""
        best = logits[:, self.scored].argmax(-1)[..., None]
        return torch.stack([(best == self.intended).any(-1), (best == self.old).any(-1)]).float()

    def effect(self, heads: list[Tensor]) -> Tensor:
        """Sum over scored positions of the logits of all heads, each centred, (changes, classes)."""
        totals = [logits[:, self.scored].sum(dim=1) for logits in heads]
        return torch.cat([total - total.mean(dim=1, keepdim=True) for total in totals], dim=1)

    def by_sequence(self, values: Tensor) -> np.ndarray:
        """Sums over the scored positions of each sequence, (..., changes, sequences)."""
        return _by_sequence(values.double().cpu().numpy(), self.sequence, self.n)

    def publish(self, at_nt: np.ndarray, label_n: np.ndarray) -> None:
        """Also score the published positions."""
        self.published = torch.from_numpy(at_nt[self.either]).to(self.device)
        self.published_sequence = np.nonzero(at_nt)[0]
        self.label = torch.from_numpy(label_n.astype(np.int64)).to(self.device)

    def right(self, logits: Tensor) -> np.ndarray:
        """Published positions predicted rightly, (changes, sequences)."""
        hit = logits[:, self.published].argmax(-1) == self.label
        return _by_sequence(hit.double().cpu().numpy(), self.published_sequence, self.n)


def _by_sequence(values: np.ndarray, sequence: np.ndarray, n: int) -> np.ndarray:
    chosen = np.zeros((len(sequence), n))
    chosen[np.arange(len(sequence)), sequence] = 1.0
    return np.asarray(values @ chosen)


class Damage(NamedTuple):
    """What steering does to text that has nothing to do with it, summed over its sequences.

    Attributes:
        ce_added: cross-entropy added, by heads other than the concept's where a model has some,
            (vectors, doses, sequences). n_ce: their scored predictions, (sequences,).
        kl: divergence from the clean run, all heads, likewise. n_kl: scored predictions.
    """

    ce_added: np.ndarray
    n_ce: np.ndarray
    kl: np.ndarray
    n_kl: np.ndarray


def damage(
    subject: Subject,
    site: str,
    tokens: TokenSet,
    chosen: np.ndarray,
    vectors: np.ndarray,
    head: str,
) -> Damage:
    """Steers a model on some sequences of a split.

    Args:
        chosen: numbers of the sequences. vectors: (vectors, width), each at dose 1.
        head: what the concept is about.
    """
    others = [name != head for name in subject.heads]
    counted = np.array(others if any(others) else [True])
    ce, kl = np.zeros((2, len(vectors), len(DOSES), len(chosen)))
    n_ce, n_kl = np.zeros((2, len(chosen)))
    size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
    for part in batches(len(chosen), size):
        block = Predictions(subject, site, tokens, chosen[part])
        n_ce[part] = block.counts[:, counted].sum(axis=1)
        n_kl[part] = block.counts.sum(axis=1)
        (clean,) = block.clean.by_sequence()[0]
        for number, v in enumerate(vectors):
            for j, dose in enumerate(DOSES):
                step = torch.from_numpy((dose * v).astype(np.float32)).to(block.own.device)
                (loss,), (divergence,) = block.score(block.own + step).by_sequence()
                ce[number, j, part] = (loss - clean)[:, counted].sum(axis=1)
                kl[number, j, part] = divergence.sum(axis=1)
    return Damage(ce, n_ce, kl, n_kl)
