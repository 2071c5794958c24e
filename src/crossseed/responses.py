"""What steering does to a model's predictions: on trials that score it, and on other text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.base import (
    FORWARD_TOKENS,
    Concept,
    Published,
    Subject,
    TokenSet,
    Trials,
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
            the doses. right_n: how many there are of each sequence.
    """

    n_u: np.ndarray
    moved: np.ndarray
    intended: np.ndarray
    old: np.ndarray
    clean: np.ndarray
    slopes: np.ndarray
    right: np.ndarray
    right_n: np.ndarray


def responses(
    subject: Subject,
    site: str,
    concept: Concept,
    vectors: np.ndarray,
) -> Responses:
    """How a model's predictions move along some vectors, (directions, width), each of the length that
    dose 1 stands for.

    Raises:
        UserError: no position of the trials can be scored.
    """
    trials, published = concept.trials, concept.published
    n, length = trials.tokens_nt.shape
    at = trials.at_nt
    either = at | published.at_nt
    which = subject.heads.index(trials.head)
    m, doses = len(vectors), np.array(DOSES)
    moved = np.zeros((m, len(doses), len(MEASURES), n))
    hits = np.zeros((2, m, len(doses), n))
    clean_hits = np.zeros((2, n))
    right = np.zeros((m, 1 + len(doses), n))
    effects: Tensor | None = None
    first, first_published = (
        np.r_[0, np.cumsum(where.sum(axis=1))] for where in (at, published.at_nt)
    )
    changes = np.array([(i, j) for i in range(m) for j in range(len(doses))])
    size = max(1, FORWARD_TOKENS // length)
    for part in batches(n, size):
        tokens = trials.tokens_nt[part]
        if not either[part].any():
            continue
        start = subject.start(tokens, site)
        own = start.value_ntd.float()
        rows, of_study = (slice(f[part.start], f[part.stop]) for f in (first, first_published))
        scorer = _Scorer(
            Trials(tokens, at[part], trials.head, trials.intended[rows], trials.old[rows]),
            Published(published.at_nt[part], published.label_n[of_study]),
            own.device,
        )
        clean = start.logits(own, either[part])
        before, effect = scorer.measures(clean[which]), scorer.effect(clean)
        clean_hits[:, part] = scorer.by_sequence(scorer.hits(clean[which]))[:, 0]
        right[:, 0, part] = scorer.right(clean[which])
        alongside = max(1, FORWARD_TOKENS // (len(tokens) * length))
        for group in batches(len(changes), alongside):
            i, j = changes[group].T
            steps = (doses[j][:, None] * vectors[i]).astype(np.float32)
            change = torch.from_numpy(steps).to(own.device)
            steered = (own[None] + change[:, None, None]).flatten(0, 1)
            heads = start.logits(steered, either[part])
            shifts = scorer.by_sequence(scorer.measures(heads[which]) - before)
            moved[i, j, :, part] = shifts.transpose(1, 0, 2)
            hits[:, i, j, part] = scorer.by_sequence(scorer.hits(heads[which]))
            right[i, 1 + j, part] = scorer.right(heads[which])
            changed = scorer.effect(heads) - effect
            if effects is None:
                effects = torch.zeros(m, changed.shape[-1], device=changed.device)
            dose = torch.from_numpy(doses[j].astype(np.float32)).to(changed.device)
            effects.index_add_(0, torch.from_numpy(i).to(changed.device), dose[:, None] * changed)
    if effects is None:
        raise UserError(
            f"concept {concept.name}: no position of the trials can be scored; draw more or longer "
            "sequences, or leave the concept out"
        )
    effects /= int(at.sum()) * float(np.sum(doses**2))
    return Responses(
        at.sum(axis=1).astype(float),
        moved,
        hits[0],
        hits[1],
        clean_hits,
        effects.double().cpu().numpy(),
        right,
        published.at_nt.sum(axis=1).astype(float),
    )


class _Scorer:
    """Scores logits at the positions of some trials, and at those of the study, in sequence order.

    Args:
        trials: on some sequences. published: where the study scores them.
    """

    def __init__(self, trials: Trials, published: Published, device: torch.device) -> None:
        at, of_study = trials.at_nt, published.at_nt
        either = at | of_study
        self.scored = torch.from_numpy(at[either]).to(device)
        self.published = torch.from_numpy(of_study[either]).to(device)
        self.intended = torch.from_numpy(trials.intended).to(device)
        self.old = torch.from_numpy(trials.old).to(device)
        self.label = torch.from_numpy(published.label_n.astype(np.int64)).to(device)
        self._of_sequence, self._of_study = (_membership(where) for where in (at, of_study))

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
        found: np.ndarray = values.double().cpu().numpy() @ self._of_sequence
        return found

    def right(self, logits: Tensor) -> np.ndarray:
        """Published positions predicted rightly, (changes, sequences)."""
        hit = logits[:, self.published].argmax(-1) == self.label
        found: np.ndarray = hit.double().cpu().numpy() @ self._of_study
        return found


def _membership(where_nt: np.ndarray) -> np.ndarray:
    """1 where a marked position is of a sequence, (marked positions, sequences)."""
    found: np.ndarray = np.eye(len(where_nt))[np.nonzero(where_nt)[0]]
    return found


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
    changes = np.array([(i, j) for i in range(len(vectors)) for j in range(len(DOSES))])
    size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
    for part in batches(len(chosen), size):
        block = Predictions(subject, site, tokens, chosen[part])
        n_ce[part] = block.counts[:, counted].sum(axis=1)
        n_kl[part] = block.counts.sum(axis=1)
        (clean,) = block.clean.by_sequence()[0]
        alongside = max(1, FORWARD_TOKENS // block.tokens.size)
        for group in batches(len(changes), alongside):
            i, j = changes[group].T
            steps = (np.array(DOSES)[j][:, None] * vectors[i]).astype(np.float32)
            step = torch.from_numpy(steps).to(block.own.device)
            steered = (block.own[None] + step[:, None, None]).flatten(0, 1)
            loss, divergence = block.score(steered).by_sequence()
            ce[i, j, part] = (loss - clean)[:, :, counted].sum(axis=2)
            kl[i, j, part] = divergence.sum(axis=2)
    return Damage(ce, n_ce, kl, n_kl)
