"""What a model still predicts when another model's activations take the place of its own.

The source runs on held-out sequences; at one site its activations are replaced, at every position
whose activation is stored, by the target's carried into its frame, alone or through one of the
source's dictionaries. What the source then predicts is compared with what it predicts on its own:
cross-entropy recovered, as a share of what replacing the site by zero (or by its mean) costs; the
divergence from the clean run (``kl``), and 1 − that / the divergence with the site at zero
(``kl_recovered``). Unlike explained variance this sees only what the model uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from crossseed import claim_rule
from crossseed.activations import SplitReader, check_paired
from crossseed.carried import PROCRUSTES, Carried
from crossseed.cohorts.base import FORWARD_TOKENS, Subject, TokenSet, batches, spread
from crossseed.metrics import estimate, resample_weights, unit_of
from crossseed.pairs import Readers
from crossseed.predictions import Predictions, Scores
from crossseed.progress import Progress
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

# The source's own activations: through a dictionary, what that alone costs.
OWN = "own"
# A dictionary, its init, and an arm.
Way = tuple[str, str, str]
JUDGED = ("ce_recovered", "ce_recovered_mean", "kl_recovered")


class _Sums(NamedTuple):
    """Cross-entropy and divergence summed over heads' predictions, by unit, (units,)."""

    loss: np.ndarray
    divergence: np.ndarray


class _Scores:
    """Sums of every way of running the model."""

    def __init__(self, n_units: int) -> None:
        self.n = np.zeros(n_units)
        self.n_units = n_units
        self.by_way: dict[Way, _Sums] = {}

    def add(self, way: Way, unit_s: np.ndarray, scores: Scores) -> None:
        """Adds what some sequences give, all heads together."""
        if way not in self.by_way:
            self.by_way[way] = _Sums(np.zeros(self.n_units), np.zeros(self.n_units))
        for total, (values,) in zip(self.by_way[way], scores.by_sequence(), strict=True):
            np.add.at(total, unit_s, values.sum(axis=1))


def splice(
    subject: Subject,
    site: str,
    tokens: TokenSet,
    readers: Readers,
    dictionaries: Mapping[tuple[str, str], Dictionary],
    carried: Carried,
    sequences: int,
    resamples: int,
    *cell: object,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `crossseed.carried.COLUMNS` and of `claim_rule.COLUMNS`, without the cell's; for the
    arguments see `values`."""
    mean = carried.maps[PROCRUSTES].shift_out_d
    found, n_tokens = values(
        subject, site, tokens, readers, dictionaries, carried, mean, sequences, resamples, *cell
    )
    return _tables(found, n_tokens)


def values(
    subject: Subject,
    site: str,
    tokens: TokenSet,
    readers: Readers,
    dictionaries: Mapping[tuple[str, str], Dictionary],
    carried: Carried,
    mean_d: np.ndarray,
    sequences: int,
    resamples: int,
    *cell: object,
) -> tuple[dict[Way, dict[str, np.ndarray]], int]:
    """Every metric of every way of running the source, on the sample and on each resample of
    documents; and how many predictions were scored.

    A way is a dictionary, its init, and an arm; without a dictionary both are empty, and the arm may be
    ``clean``, ``zero`` or ``mean_ablation`` too.

    Args:
        subject: the source, whole.
        site: where its activations are replaced.
        tokens: the `eval` split.
        readers: activations on it.
        dictionaries: the source's by (name, init).
        carried: what takes the place of the source's activations, arm by arm.
        mean_d: the source's mean, which takes its place in ``mean_ablation``.
        sequences: how many sequences are run, evenly spaced over the split.
        resamples: bootstrap resamples behind each interval.
        cell: names the cell.
    """
    for reader in readers[1:]:
        if reader is not None:
            check_paired(readers.source, reader)
    chosen = spread(len(tokens.tokens_nt), sequences)
    unit = unit_of(tokens.document_n[chosen])
    n_units = int(unit[-1]) + 1
    scores = _Scores(n_units)
    rng = generator("gaussian", *cell)
    first_row = np.r_[0, np.cumsum(tokens.keep_nt.sum(axis=1))]
    size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
    progress = Progress("splice", len(chosen))
    for part in batches(len(chosen), size):
        block = Predictions(subject, site, tokens, chosen[part])
        np.add.at(scores.n, unit[part], block.counts.sum(axis=1))

        def run(
            way: Way, rows_nd: np.ndarray, block: Predictions = block, part: slice = part
        ) -> None:
            scores.add(way, unit[part], block.score(block.with_rows(rows_nd)))

        scores.add(("", "", "clean"), unit[part], block.clean)
        rows = [slice(first_row[s], first_row[s + 1]) for s in chosen[part]]
        a, b = _rows(readers.source, rows), _rows(readers.target, rows)
        before = _rows(readers.untrained, rows) if readers.untrained is not None else None
        mean = np.broadcast_to(mean_d.astype(np.float32), a.shape)
        run(("", "", "zero"), np.zeros_like(a))
        run(("", "", "mean_ablation"), mean)
        for arm in (OWN, *carried.arms):
            x = a if arm == OWN else carried.rows(arm, a, b, before, rng)
            if arm != OWN:
                run(("", "", arm), x)
            for (name, init), dictionary in dictionaries.items():
                run((name, init, arm), dictionary.decode(dictionary.encode(x)))
        progress.update(part.stop, "sequences")
    progress.close()
    weights = resample_weights(generator("bootstrap", *cell), n_units, resamples)
    return _metrics(scores, weights), int(scores.n.sum())


def _rows(reader: SplitReader, parts: Iterable[slice]) -> np.ndarray:
    return np.concatenate([reader.rows(part) for part in parts])


def _metrics(scores: _Scores, weights: np.ndarray) -> dict[Way, dict[str, np.ndarray]]:
    n = weights @ scores.n

    def loss(way: Way) -> np.ndarray:
        return (weights @ scores.by_way[way].loss) / n

    clean, zero, mean = (loss(("", "", name)) for name in ("clean", "zero", "mean_ablation"))
    lost = (weights @ scores.by_way["", "", "zero"].divergence) / n
    found = {}
    for way, sums in scores.by_way.items():
        own, kl = loss(way), (weights @ sums.divergence) / n
        found[way] = {
            "ce": own,
            "kl": kl,
            "kl_recovered": 1 - kl / lost,
            "ce_recovered": (zero - own) / (zero - clean),
            "ce_recovered_mean": (mean - own) / (mean - clean),
        }
    return found


def _tables(
    found: Mapping[Way, dict[str, np.ndarray]], n_tokens: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    judged: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
    for (dictionary, init, arm), of_way in found.items():
        judged.setdefault((dictionary, init), {})[arm] = of_way
        cell = {"dictionary": dictionary, "init": init, "arm": arm}
        for metric, value in of_way.items():
            row = {**cell, "metric": metric, **estimate(value)._asdict()}
            rows.append({**row, "n_tokens": n_tokens})
    evidence = [
        {"dictionary": dictionary, "init": init, **row}
        for (dictionary, init), of_arms in judged.items()
        for row in claim_rule.evidence(of_arms, JUDGED)
    ]
    return rows, evidence
