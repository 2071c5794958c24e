"""First letters in the SAEs of several seeds of one member and site: what is measured, its nulls, and how it goes together
with what SAE seeds share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from crossseed.absorption import RANDOM
from crossseed.absorption import measure as m
from crossseed.absorption import probes as p
from crossseed.absorption import words as w
from crossseed.activations import SplitReader
from crossseed.errors import UserError
from crossseed.metrics import Estimate, jackknife, unit_rows
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

# Latents that fire as often as one, half of them more rarely.
AS_OFTEN = 32
# SAE seeds from which an interval over letters is one over seeds too.
LEAST_SEEDS = 4
OF_SEEDS = ("main_reappears", "absorber_reappears", "reappears_difference")
Row = dict[str, Any]
# By quantity, a value and how many rows, latents or letters it is of.
Values = dict[str, tuple[float, int]]
NAN = float("nan")


class Limits(NamedTuple):
    """What counts; the leaves of ``stability.absorption``."""

    letters_min_tokens: int
    rows: int
    permutations: int
    k: int
    jump: float
    probe_f1: float
    cosine: float
    share: float

    @property
    def thresholds(self) -> m.Thresholds:
        return m.Thresholds(self.k, self.jump, self.cosine, self.share)


class Seen(NamedTuple):
    """Latents of one SAE among those of the other seeds.

    Attributes:
        density: share of tokens on which each fires, (latents,). reappears: share of the other SAEs that have it.
    """

    density: np.ndarray
    reappears: np.ndarray

    def as_often(self, chosen: np.ndarray) -> float:
        """Mean share that reappears of the latents that fire as often as some, (latents,) by number, do; NaN where
        there are none."""
        live = np.flatnonzero(self.density > 0)
        order = live[np.argsort(self.density[live], kind="stable")]
        place = np.empty(len(self.density), dtype=np.int64)
        place[order] = np.arange(len(order))
        means = []
        for latent in chosen:
            if self.density[latent] <= 0:
                continue
            first = max(0, min(place[latent] - AS_OFTEN // 2, len(order) - AS_OFTEN - 1))
            beside = order[first : first + AS_OFTEN + 1]
            means.append(self.reappears[beside[beside != latent]].mean() if len(order) > 1 else NAN)
        return float(np.mean(means)) if means else NAN


def study(
    dictionaries: Mapping[str, Dictionary],
    seen: Mapping[str, Seen],
    train: SplitReader,
    held_out: SplitReader,
    decode: Callable[[int], str],
    limits: Limits,
    *cell: object,
) -> list[Row]:
    """Rows of `crossseed.absorption.COLUMNS`, without the cell's.

    Args:
        dictionaries: by SAE seed. seen: of each, its latents among those of the others.
        train: activations that probes and sparse probes are fitted on.
        held_out: activations of other documents, on which everything is measured.
        decode: text of a token id.
        cell: names the cell.

    Raises:
        UserError: a split has no token that is a word.
    """
    token_n, held_n = train.token_n, held_out.token_n
    letter_i = w.letters_of(decode, np.r_[token_n, held_n])
    out_i = w.held_out(letter_i)
    fit, held = (
        w.read(split, w.choose(tokens, letter_i, among, limits.rows, name), letter_i)
        for split, tokens, among, name in (
            (train, token_n, ~out_i, "fit"),
            (held_out, held_n, out_i, "held out"),
        )
    )
    for split, used in ((train, fit), (held_out, held)):
        if not len(used.x):
            raise UserError(
                f"{split.path}: no token of a word of two letters or more is left to read first letters from; "
                "set stability.absorption: null, or draw more sequences"
            )
    n_ids = [_ids(used) for used in (fit, held)]
    enough = np.flatnonzero(np.minimum(*n_ids) >= limits.letters_min_tokens).tolist()
    if not enough:
        return _counted(0, len(w.LETTERS), 0, NAN)
    tasks = _tasks(fit, held, letter_i, limits.permutations, *cell)
    real, permuted = tasks[0], tasks[1:]
    f1, null_f1 = _probe_f1(tasks[:1], enough), _probe_f1(permuted, enough)
    kept = [letter for letter in enough if f1[letter] >= limits.probe_f1]
    passed = np.mean(
        [_probe_f1([t], enough)[c] >= limits.probe_f1 for t in permuted for c in enough]
    )
    rows = _counted(
        len(kept),
        len(w.LETTERS) - len(enough),
        len(enough) - len(kept),
        float(passed) * len(enough),
    )
    for letter in enough:
        n = int((held.letter == letter).sum())
        rows.append(_row("", letter, "probe_f1", f1[letter], null=null_f1[letter], n=n))
        for name, counts in zip(("tokens_fit", "tokens_held_out"), n_ids, strict=True):
            rows.append(_row("", letter, name, float(counts[letter]), n=int(counts[letter])))
    rows.append(_over_letters("", "probe_f1", [f1[c] for c in kept], [null_f1[c] for c in kept]))
    measured: list[Row] = []
    active = []
    for init, dictionary in dictionaries.items():
        coder = m.Coder(dictionary.encode, dictionary.W_dec, dictionary.b_dec)
        h = m.encoded(coder, fit.x), m.encoded(coder, held.x)
        active.append(sum(of.nnz for of in h) / sum(of.shape[0] for of in h))
        measured += _of_one(init, real, permuted, kept, coder, h, held.x, limits, seen[init])
    coder = random_coder(next(iter(dictionaries.values())), max(1, round(np.mean(active))), *cell)
    h = m.encoded(coder, fit.x), m.encoded(coder, held.x)
    measured += _of_one(RANDOM, real, permuted, kept, coder, h, held.x, limits, None)
    return rows + measured + _together(measured, list(dictionaries))


def _ids(rows: w.Rows) -> np.ndarray:
    """Token ids of each letter."""
    _, first = np.unique(rows.token, return_index=True)
    return np.bincount(rows.letter[first], minlength=len(w.LETTERS))


def _tasks(
    fit: w.Rows, held: w.Rows, letter_i: np.ndarray, permutations: int, *cell: object
) -> list[m.Task]:
    """The letters, and permuted ones: the same rows, whose token ids have the letters of others."""
    found: list[m.Task] = []
    penalty = NAN
    for number in range(1 + permutations):
        letters = letter_i
        if number:
            letters = w.permuted(letter_i, [fit.token, held.token], *cell, number)
        of_fit, of_held = letters[fit.token], letters[held.token]
        fold = w.folds(fit.token, of_fit)
        if not number:
            penalty = p.choose_penalty(fit.x, of_fit, fold)
        found.append(m.task(fit.x, held.x, of_fit, of_held, fold, penalty))
    return found


def _probe_f1(tasks: Sequence[m.Task], letters: Sequence[int]) -> dict[int, float]:
    """Of each letter, mean over tasks."""
    return {
        letter: float(np.mean([p.f1(t.predicted == letter, t.held == letter) for t in tasks]))
        for letter in letters
    }


def random_coder(like: Dictionary, k: int, *cell: object) -> m.Coder:
    """A dictionary of no model: as many random directions, about the same offset, of which the k fire that a row has most
    of."""
    n, width = like.W_dec.shape
    rng = generator("absorption-random", *cell)
    directions = unit_rows(rng.standard_normal((n, width), dtype=np.float32))

    def encode(x_nd: np.ndarray) -> np.ndarray:
        h: np.ndarray = np.maximum((x_nd - like.b_dec) @ directions.T, 0)
        if k < n:
            h[h < np.partition(h, n - k, axis=1)[:, n - k, None]] = 0
        return h

    return m.Coder(encode, directions, like.b_dec)


def _of_one(
    init: str,
    real: m.Task,
    permuted: Sequence[m.Task],
    kept: list[int],
    coder: m.Coder,
    h: tuple[sparse.csr_matrix, sparse.csr_matrix],
    x_held: np.ndarray,
    limits: Limits,
    seen: Seen | None,
) -> list[Row]:
    """Rows of one dictionary, a quantity and letter each."""
    found, *nulls = (
        m.letters(task, kept, coder, *h, x_held, limits.thresholds) for task in (real, *permuted)
    )
    rows = []
    for letter in kept:
        null = values([of[letter] for of in nulls])
        for quantity, (value, n) in values([found[letter]]).items():
            rows.append(_row(init, letter, quantity, value, null=null[quantity][0], n=n))
        if seen is not None:
            rows += [
                _row(init, letter, quantity, value, null=as_often, n=n)
                for quantity, (value, as_often, n) in shared(found[letter], seen).items()
            ]
    return rows


def values(found: Sequence[m.Found]) -> Values:
    """What is said of a letter in one dictionary; over several permutations, shares of the rows of all."""
    with_latents = [of for of in found if len(of.main)]
    right = sum(of.right for of in with_latents)
    silent = sum(of.silent for of in with_latents)
    taken = sum(len(of.absorbers) for of in with_latents)
    rows = sum(of.rows for of in found)
    distinct = [len(np.unique(of.absorbers)) for of in with_latents]
    return {
        "latent_f1": (float(np.mean([of.first_f1 for of in found])), rows),
        "split_f1": (float(np.mean([of.split_f1 for of in found])), rows),
        "split_latents": (float(np.mean([len(of.main) for of in found])), rows),
        "silent": (_share(silent, right), right),
        "absorbed_of_silent": (_share(taken, silent), silent),
        "absorption_rate": (_share(taken, right), right),
        "absorbers": (float(np.mean(distinct)) if right else NAN, taken),
    }


def shared(found: m.Found, seen: Seen) -> dict[str, tuple[float, float, int]]:
    """In how many other SAEs a letter's latents and those that take over from them are found, the same of latents that fire
    as often, and how many latents there are."""
    absorbers = np.unique(found.absorbers)
    main, taking = (
        (float(seen.reappears[of].mean()) if len(of) else NAN, seen.as_often(of))
        for of in (found.main, absorbers)
    )
    return {
        "main_reappears": (*main, len(found.main)),
        "absorber_reappears": (*taking, len(absorbers)),
        "reappears_difference": (
            main[0] - taking[0],
            main[1] - taking[1],
            len(found.main) + len(absorbers) if len(found.main) and len(absorbers) else 0,
        ),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else NAN


def _row(
    init: str,
    letter: int | None,
    quantity: str,
    value: float,
    *,
    low: float = NAN,
    high: float = NAN,
    null: float = NAN,
    n: int = 0,
) -> Row:
    return {
        "init": init,
        "letter": "" if letter is None else w.LETTERS[letter],
        "quantity": quantity,
        "value": float(value),
        "low": low,
        "high": high,
        "null": float(null),
        "n": n,
    }


def _counted(kept: int, rare: int, weak: int, by_chance: float) -> list[Row]:
    """How many letters there are, have too few tokens, and have too weak a probe."""
    n = len(w.LETTERS)
    return [
        _row("", None, "letters_kept", kept, null=by_chance, n=n),
        _row("", None, "letters_rare", rare, n=n),
        _row("", None, "letters_weak", weak, n=n),
    ]


def _over_letters(init: str, quantity: str, found: Sequence[float], null: Sequence[float]) -> Row:
    """The mean over letters of one SAE, or of the probes."""
    return _mean_row(init, quantity, np.array(found)[:, None], np.array(null)[:, None])


def _mean_row(init: str, quantity: str, values_ls: np.ndarray, null_ls: np.ndarray) -> Row:
    of = over(values_ls)
    n = int(np.isfinite(values_ls).any(axis=1).sum())
    return _row(init, None, quantity, of.value, low=of.low, high=of.high, null=_mean(null_ls), n=n)


def _together(measured: Sequence[Row], seeds: Sequence[str]) -> list[Row]:
    """Means over letters, of each SAE and of all seeds."""
    letters = list(dict.fromkeys(row["letter"] for row in measured))
    at = {(row["init"], row["letter"], row["quantity"]): row for row in measured}

    def table(quantity: str, inits: Sequence[str], column: str) -> np.ndarray:
        rows = [[at[init, letter, quantity][column] for init in inits] for letter in letters]
        return np.array(rows, dtype=float)

    found = []
    for quantity in dict.fromkeys(row["quantity"] for row in measured):
        inits = [*seeds, *([] if quantity in OF_SEEDS else [RANDOM])]
        for init, group in [("", seeds), *((init, [init]) for init in inits)]:
            tables = (table(quantity, group, column) for column in ("value", "null"))
            found.append(_mean_row(init, quantity, *tables))
    return found


def over(values_ls: np.ndarray) -> Estimate:
    """Mean over letters and SAE seeds with an interval that leaves out one letter at a time, in all seeds; from
    `LEAST_SEEDS` seeds on the one over seeds is added, by squares, which is not too short where both vary.

    Args:
        values_ls: (letters, seeds), NaN where there is none.
    """
    values_ls = values_ls[np.isfinite(values_ls).any(axis=1)]
    value = _mean(values_ls)
    reach, n_letters, n_seeds = 0.0, *values_ls.shape
    for axis, n in enumerate((n_letters, n_seeds)):
        if axis == 1 and n_seeds < LEAST_SEEDS:
            continue
        without = np.array([_mean(np.delete(values_ls, i, axis=axis)) for i in range(n)])
        reach = float(np.hypot(reach, jackknife(value, without).high - value))
    return Estimate(value, value - reach, value + reach)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else NAN
