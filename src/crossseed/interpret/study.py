"""Latents of the first SAE of a cell scored by in how many of the others they are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from crossseed.activations import SplitReader
from crossseed.cohorts.base import Words
from crossseed.errors import UserError
from crossseed.interpret import NGRAM, QUANTITIES, explain, ngrams
from crossseed.interpret.chat import NotReached, Scorer
from crossseed.interpret.contexts import (
    Firings,
    Items,
    Windows,
    balanced_accuracy,
    by_strength,
    firings,
    items,
    marks,
    windows,
)
from crossseed.metrics import Estimate, jackknife
from crossseed.progress import Progress
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

# Windows of either kind that a latent needs in `eval`.
LEAST_TEST = 10
# Latents below which no interval is told: it would reach beyond 0 and 1.
LEAST_LATENTS = 5
# Shuffles of which latent is found in how many SAEs.
SHUFFLES = 999
# Latents are told apart by how often they fire: quarters of those scored.
STRATA = 4
NOT_REACHED = "scorer not reached"
NO_EXPLANATION = "no explanation could be read"
Row = dict[str, Any]
Embed = Callable[[Sequence[str]], np.ndarray]


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


class Found(NamedTuple):
    """Attributes: rows, steps: of `COLUMNS` and `STEP_COLUMNS`, without the cell's. explanations: a line each.
    windows, read: what was scored, of `train` and `eval`. latents: the numbers that `read` is of."""

    rows: list[Row]
    steps: list[Row]
    explanations: list[Row]
    windows: tuple[Windows, Windows]
    read: Read
    latents: list[int]


def drawn(latents: Sequence[Latent], n: int, least: float, *cell: object) -> list[Latent]:
    """At most n latents of each class, found in exactly 1, 2, … SAEs, of those that fire at least so often."""
    chosen: list[Latent] = []
    for k in sorted({latent.found_in for latent in latents}):
        of = [one for one in latents if one.found_in == k and one.density >= least]
        order = generator("interpret-latents", *cell, k).permutation(len(of))[:n]
        chosen += [of[i] for i in np.sort(order)]
    return chosen


def study(
    settings: Settings,
    dictionaries: Sequence[Dictionary],
    latents: Sequence[Latent],
    splits: tuple[SplitReader, SplitReader],
    words: Words,
    scorer: tuple[str, Scorer] | None,
    embed: Embed | None,
    *cell: object,
) -> Found:
    """Args:
        dictionaries: the first SAE, and the second, with which explanations are compared.
        latents: those of the first that fire. splits: `train` and `eval` of their member and site.
        scorer: a language model and its name in the tables, or None for n-grams alone.
        embed: sentences to unit rows.
        cell: names the cell.

    Raises:
        UserError: no latent can be scored.
    """
    train, test = (windows(split, settings.context, settings.tokens) for split in splits)
    least = settings.least_windows / splits[1].n_tokens
    candidates = drawn(latents, settings.latents, least, *cell)
    read = _read(splits, (train, test), dictionaries[0], [one.number for one in candidates])
    chosen, asked = _scorable(settings, candidates, read, *cell)
    if not chosen:
        raise UserError(
            f"{splits[0].path}: none of {len(latents)} latents fires in {settings.least_windows} windows of train, "
            f"and in {LEAST_TEST} of eval but not in {LEAST_TEST} others; lower stability.interpret.least_windows or "
            "context, or raise tokens"
        )
    every = ngrams.grams(train.tokens_wt, test.tokens_wt, settings.order, settings.sides)
    rows, explanations = _by_ngrams(every, candidates, chosen, asked, read, train, words, *cell)
    texts: dict[str, dict[int, str]] = {
        NGRAM: {of["latent"]: of["explanation"] for of in explanations}
    }
    shown = _Shown(settings, candidates, read, train, test, words, cell)
    if scorer is not None:
        name, model = scorer
        more, texts[name] = _by_model(name, model, shown, chosen, asked, *cell)
        rows += more
        explanations += [
            _explained(shown.latent(number), name, text) for number, text in texts[name].items()
        ]
    for of in explanations:
        of["shown"] = shown.train_texts(of["latent"])
    steps = _steps(rows, latents, least, *cell)
    if embed is not None:
        steps += _similar(settings, dictionaries[1], splits, (train, test), every, words, scorer, embed, shown, texts, *cell)  # fmt: skip
    return Found(rows, steps, explanations, (train, test), read, [one.number for one in candidates])


def _read(
    splits: tuple[SplitReader, SplitReader],
    found: tuple[Windows, Windows],
    dictionary: Dictionary,
    numbers: Sequence[int],
) -> Read:
    return Read(
        *(firings(split, of, dictionary, numbers) for split, of in zip(splits, found, strict=True))
    )


def _scorable(
    settings: Settings, candidates: Sequence[Latent], read: Read, *cell: object
) -> tuple[list[int], dict[int, Items]]:
    """Numbers, among the candidates, of those with windows enough, and what each is scored on."""
    chosen: list[int] = []
    asked: dict[int, Items] = {}
    for number, latent in enumerate(candidates):
        if (read.train.of(number).max(axis=1) > 0).sum() < settings.least_windows:
            continue
        rng = generator("interpret-items", *cell, latent.number)
        of = items(read.test.of(number), settings.test_examples, rng)
        if min(of.fires_i.sum(), (~of.fires_i).sum()) >= LEAST_TEST:
            chosen.append(number)
            asked[number] = of
    return chosen, asked


def _row(latent: Latent, scorer: str, quantity: str, value: float, null: float, n: int, note: str = "") -> Row:  # fmt: skip
    return {
        "latent": latent.number,
        "found_in": latent.found_in,
        "density": latent.density,
        "scorer": scorer,
        "quantity": quantity,
        "value": value,
        "null": null,
        "n": n,
        "note": note,
    }


def _explained(latent: Latent, scorer: str, text: str) -> Row:
    return {
        "latent": latent.number,
        "found_in": latent.found_in,
        "scorer": scorer,
        "explanation": text,
    }


def _by_ngrams(
    every: list[ngrams.Gram],
    candidates: Sequence[Latent],
    chosen: Sequence[int],
    asked: Mapping[int, Items],
    read: Read,
    train: Windows,
    words: Words,
    *cell: object,
) -> tuple[list[Row], list[Row]]:
    null = ngrams.shuffled(every, generator("interpret-shuffle", *cell))
    rows, explanations = [], []
    progress = Progress("n-grams", len(chosen))
    for done, number in enumerate(chosen):
        progress.update(done, "latents")
        latent, acts = candidates[number], read.train.of(number)
        of, by_chance = (
            ngrams.score(grams, acts, asked[number], generator("interpret-threshold", *cell, latent.number))
            for grams in (every, null)
        )  # fmt: skip
        n = len(asked[number].fires_i)
        rows += [
            _row(latent, NGRAM, name, of[0][name], by_chance[0][name], n) for name in QUANTITIES
        ]
        text = ngrams.explanation(every, of[1], train.tokens_wt, words)
        explanations.append(_explained(latent, NGRAM, text))
    progress.close()
    return rows, explanations


class _Shown:
    """Windows of latents as text."""

    def __init__(
        self,
        settings: Settings,
        candidates: Sequence[Latent],
        read: Read,
        train: Windows,
        test: Windows,
        words: Words,
        cell: tuple[object, ...],
    ) -> None:
        self.settings, self.candidates, self.read = settings, candidates, read
        self.train, self.test, self.words, self.cell = train, test, words, cell
        self._number = {latent.number: k for k, latent in enumerate(candidates)}

    def latent(self, name: int) -> Latent:
        return self.candidates[self._number[name]]

    def train_texts(self, name: int) -> list[str]:
        """Marked windows of `train`, strongest first, that a latent is explained by."""
        acts = self.read.train.of(self._number[name])
        rng = generator("interpret-shown", *self.cell, name)
        return shown_texts(acts, self.train, self.words, self.settings.train_examples, rng)

    def test_words(self, asked: Items) -> list[list[str]]:
        return [self.words(list(tokens)) for tokens in self.test.tokens_wt[asked.window_i]]


def shown_texts(
    acts_wt: np.ndarray, train: Windows, words: Words, n: int, rng: np.random.Generator
) -> list[str]:
    """n windows in which a latent fires, evenly from groups by how strongly it does, its tokens marked."""
    chosen = by_strength(acts_wt, n, rng)
    return [
        explain.marked(words(list(train.tokens_wt[w])), marked)
        for w, marked in zip(chosen, marks(acts_wt[chosen]), strict=True)
    ]


def _by_model(
    name: str,
    model: Scorer,
    shown: _Shown,
    chosen: Sequence[int],
    asked: Mapping[int, Items],
    *cell: object,
) -> tuple[list[Row], dict[int, str]]:
    """Scores by a language model, and its explanations. Once it is not reached it is not asked again."""
    lost = ""
    texts: dict[int, str] = {}
    rows: list[Row] = []
    # In random order, so that a scorer lost midway leaves some of every class.
    asked_for = generator("interpret-order", *cell).permutation(np.array(chosen, dtype=int))
    latents = {int(number): shown.candidates[number] for number in asked_for}
    said: dict[int, str | None] = {}
    try:
        answers = model.ask_all(
            [explain.explaining(shown.train_texts(of.number)) for of in latents.values()]
        )
        said = dict(zip(latents, map(explain.read_explanation, answers), strict=True))
    except NotReached as error:
        lost = f"{NOT_REACHED}: {error}"
        print(f"{name}: {lost}; the scores by n-grams stand", flush=True)
    texts = {latents[number].number: text for number, text in said.items() if text is not None}
    # The null: explanations go round among the latents that have one.
    order = [number for number, text in said.items() if text is not None]
    order = [order[i] for i in generator("interpret-others", *cell).permutation(len(order))]
    others = dict(zip(order, [*order[1:], *order[:1]], strict=True)) if len(order) > 1 else {}
    progress = Progress(name, len(latents))
    for done, (number, latent) in enumerate(latents.items()):
        progress.update(done, "latents")
        text = said.get(number)
        for quantity in QUANTITIES:
            value = null = float("nan")
            n, note = 0, lost
            if not lost and text is None:
                note = NO_EXPLANATION
            elif not lost and text is not None:
                try:
                    value, n = _asked(model, quantity, text, shown, asked[number])
                    if number in others:
                        other = said[others[number]]
                        assert other is not None
                        null, _ = _asked(model, quantity, other, shown, asked[number])
                except NotReached as error:
                    value = null = float("nan")
                    n, note = 0, f"{NOT_REACHED}: {error}"
                    lost = note
                    print(f"{name}: {lost}; what it has said so far stands", flush=True)
            rows.append(_row(latent, name, quantity, value, null, n, note))
    progress.close()
    place = {latents[number].number: chosen.index(number) for number in latents}
    return sorted(rows, key=lambda row: place[row["latent"]]), texts


def _asked(
    model: Scorer, quantity: str, explanation: str, shown: _Shown, asked: Items
) -> tuple[float, int]:
    """Balanced accuracy over what could be read, and over how many windows it is."""
    texts = explain.texts_of(quantity, shown.test_words(asked), asked)
    said = explain.decide(model, quantity, explanation, texts)
    known = np.isfinite(said)
    if not known.any():
        return float("nan"), 0
    return balanced_accuracy(said[known] > 0.5, asked.fires_i[known]), int(known.sum())


# --- over latents -----------------------------------------------------------------------

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def step(score: np.ndarray, found_in: np.ndarray, stratum: np.ndarray) -> float:
    """Mean score of latents found in more than one SAE less that of those in one alone."""
    alone = found_in == 1
    if alone.all() or not alone.any():
        return float("nan")
    return float(score[~alone].mean() - score[alone].mean())


def step_same_density(score: np.ndarray, found_in: np.ndarray, stratum: np.ndarray) -> float:
    """The same between latents that fire about as often: least squares with a level for each quarter of density."""
    shared = found_in > 1
    levels = stratum[:, None] == np.unique(stratum)
    design = np.column_stack([shared, levels]).astype(float)
    found, _, rank, _ = np.linalg.lstsq(design, score, rcond=None)
    return float(found[0]) if rank == design.shape[1] else float("nan")


def slope(score: np.ndarray, found_in: np.ndarray, stratum: np.ndarray) -> float:
    """Change of the score with every SAE more, among latents found in two or more."""
    several = found_in > 1
    k = found_in[several] - found_in[several].mean() if several.any() else np.zeros(1)
    return float(k @ score[several] / (k @ k)) if (k @ k) > 0 else float("nan")


CONTRASTS: dict[str, Statistic] = {
    "step": step,
    "step_same_density": step_same_density,
    "slope": slope,
}


def _within(group: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values exchanged among those of one group."""
    found = values.copy()
    for name in np.unique(group):
        inside = np.flatnonzero(group == name)
        found[inside] = values[rng.permutation(inside)]
    return found


def exchanged(
    of: Statistic, found_in: np.ndarray, stratum: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """In how many SAEs latents are found, exchanged among those that a contrast takes for alike: where it is at equal
    density those of one stratum, where it is among shared latents these alone."""
    if of is step_same_density:
        return _within(stratum, found_in, rng)
    return _within(found_in > 1, found_in, rng) if of is slope else rng.permutation(found_in)


def contrast(
    of: Statistic,
    score: np.ndarray,
    found_in: np.ndarray,
    stratum: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Estimate, float, float]:
    """A contrast with its interval by leaving out one latent at a time, its mean where it is `exchanged` which latent is
    found in how many SAEs, and how often that is as far from this mean."""
    value = of(score, found_in, stratum)
    if not np.isfinite(value):
        return Estimate(value), float("nan"), float("nan")
    found = Estimate(value)
    if len(score) >= LEAST_LATENTS:
        rest = [np.arange(len(score)) != k for k in range(len(score))]
        found = jackknife(value, np.array([of(score[r], found_in[r], stratum[r]) for r in rest]))
    drawn = (exchanged(of, found_in, stratum, rng) for _ in range(SHUFFLES))
    chance = np.array([of(score, found, stratum) for found in drawn])
    chance = chance[np.isfinite(chance)]
    null = float(chance.mean())
    as_far = int((np.abs(chance - null) >= abs(value - null) - 1e-12).sum())
    return found, null, (1 + as_far) / (1 + len(chance))


def _mean(values: np.ndarray) -> Estimate:
    n = len(values)
    if not n:
        return Estimate(float("nan"))
    value = float(values.mean())
    if n < LEAST_LATENTS:
        return Estimate(value)
    return jackknife(value, (values.sum() - values) / (n - 1))


def _step_row(
    scorer: str,
    quantity: str,
    part: object,
    value: Estimate,
    null: float = float("nan"),
    p: float = float("nan"),
    n: int = 0,
    note: str = "",
) -> Row:
    return {
        "scorer": scorer,
        "quantity": quantity,
        "part": str(part),
        **value._asdict(),
        "null": null,
        "p": p,
        "n": n,
        "note": note,
    }


def _steps(
    rows: Sequence[Row], latents: Sequence[Latent], least: float, *cell: object
) -> list[Row]:
    """Mean scores by the number of SAEs in which a latent is found, and contrasts of them."""
    found: list[Row] = []
    counts = sorted({latent.found_in for latent in latents})
    for k in counts:
        of = [latent for latent in latents if latent.found_in == k]
        share = float(np.mean([latent.density >= least for latent in of]))
        found.append(_step_row("", "often_enough", k, Estimate(share), n=len(of)))
    for scorer in dict.fromkeys(row["scorer"] for row in rows):
        for quantity in QUANTITIES:
            of_both = [r for r in rows if (r["scorer"], r["quantity"]) == (scorer, quantity)]
            notes = sorted({row["note"] for row in of_both} - {""})
            note = "; ".join(notes)
            told = [row for row in of_both if np.isfinite(row["value"])]
            score, null, found_in, density = (
                np.array([row[name] for row in told], dtype=float)
                for name in ("value", "null", "found_in", "density")
            )
            for count in counts:
                here = found_in == count
                by_chance = null[here & np.isfinite(null)]
                chance = float(by_chance.mean()) if len(by_chance) else float("nan")
                found.append(
                    _step_row(scorer, quantity, count, _mean(score[here]), chance, n=int(here.sum()), note=note)
                )  # fmt: skip
            edges = np.quantile(density, np.linspace(0, 1, STRATA + 1)[1:-1]) if len(told) else []
            stratum = np.searchsorted(edges, density, side="right")
            for name, statistic in CONTRASTS.items():
                rng = generator("interpret-shuffles", *cell, scorer, quantity, name)
                value, chance, p = (
                    contrast(statistic, score, found_in, stratum, rng)
                    if len(told)
                    else (Estimate(float("nan")), float("nan"), float("nan"))
                )
                found.append(
                    _step_row(scorer, quantity, name, value, chance, p, n=len(told), note=note)
                )
    return found


# --- explanations of two SAEs -----------------------------------------------------------


def _similar(
    settings: Settings,
    other: Dictionary,
    splits: tuple[SplitReader, SplitReader],
    found: tuple[Windows, Windows],
    every: list[ngrams.Gram],
    words: Words,
    scorer: tuple[str, Scorer] | None,
    embed: Embed,
    shown: _Shown,
    texts: Mapping[str, Mapping[int, str]],
    *cell: object,
) -> list[Row]:
    """How alike explanations of latents and of their partners in the second SAE are."""
    explained = sorted({number for of in texts.values() for number in of})
    partners = sorted({shown.latent(number).partner for number in explained})
    train, _ = found
    acts = firings(splits[0], train, other, partners)
    theirs: dict[str, dict[int, str]] = {name: {} for name in texts}
    fires = [k for k in range(len(partners)) if (acts.of(k) > 0).any()]
    for k in fires:
        fitted = ngrams.fit(every, acts.of(k) > 0)
        theirs[NGRAM][partners[k]] = ngrams.explanation(every, fitted, train.tokens_wt, words)
    note = ""
    if scorer is not None and texts[scorer[0]]:
        name, model = scorer
        prompts = [
            explain.explaining(
                shown_texts(
                    acts.of(k), train, words, settings.train_examples,
                    generator("interpret-shown", *cell, "second", partners[k]),
                )
            )
            for k in fires
        ]  # fmt: skip
        try:
            said = [explain.read_explanation(answer) for answer in model.ask_all(prompts)]
            theirs[name] = {
                partners[k]: text for k, text in zip(fires, said, strict=True) if text is not None
            }
        except NotReached as error:
            note = f"{NOT_REACHED}: {error}"
    rows = []
    for name, mine in texts.items():
        pairs = [
            (shown.latent(number), text, theirs[name][shown.latent(number).partner])
            for number, text in mine.items()
            if text and theirs[name].get(shown.latent(number).partner)
        ]
        rows += alike(name, pairs, embed, note if name != NGRAM else "")
    return rows


def alike(
    scorer: str, pairs: Sequence[tuple[Latent, str, str]], embed: Embed, note: str = ""
) -> list[Row]:
    """Mean cosines of the explanations of latents and of their partners: shared ones, others, and matched anew by their
    explanations alone; null: of latents and other latents' partners."""
    quantity = "explanation_cosine"
    parts = ("shared", "unshared", "by_explanation")
    if len(pairs) < 2:
        return [_step_row(scorer, quantity, part, Estimate(float("nan")), note=note) for part in parts]  # fmt: skip
    both = embed([text for _, text, _ in pairs] + [text for _, _, text in pairs])
    cosine = both[: len(pairs)] @ both[len(pairs) :].T
    # Two latents may have one partner among those that are not shared.
    partner = np.array([latent.partner for latent, _, _ in pairs])
    others = partner[:, None] != partner
    null = float(cosine[others].mean()) if others.any() else float("nan")
    shared = np.array([latent.shared for latent, _, _ in pairs])
    own = np.diag(cosine)
    # The best of many matchings is never that of chance: its null is the best without any true pair.
    anew = cosine[linear_sum_assignment(cosine, maximize=True)]
    without = np.where(others, cosine, -2.0)
    best = without[linear_sum_assignment(without, maximize=True)]
    nulls = (null, null, float(best[best >= -1].mean()) if (best >= -1).any() else float("nan"))
    return [
        _step_row(scorer, quantity, part, _mean(values), chance, n=len(values), note=note)
        for part, values, chance in zip(
            parts, (own[shared], own[~shared], anew), nulls, strict=True
        )
    ]
