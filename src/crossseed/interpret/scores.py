"""Latents explained, by n-grams and by a language model, and explanations scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crossseed.cohorts.base import Words
from crossseed.interpret import NGRAM, QUANTITIES, explain, ngrams
from crossseed.interpret.chat import NotReached, Scorer
from crossseed.interpret.contexts import Items, Windows, balanced_accuracy, by_strength, marks
from crossseed.interpret.latents import Latent, Read, Row, Settings
from crossseed.progress import Progress
from crossseed.seeding import generator

NOT_REACHED = "scorer not reached"
NO_EXPLANATION = "no explanation could be read"


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


def explained_row(latent: Latent, scorer: str, text: str) -> Row:
    """A line of the file of explanations."""
    return {
        "latent": latent.number,
        "found_in": latent.found_in,
        "scorer": scorer,
        "explanation": text,
    }


def by_ngrams(
    every: list[ngrams.Gram],
    candidates: Sequence[Latent],
    chosen: Sequence[int],
    asked: Mapping[int, Items],
    read: Read,
    train: Windows,
    words: Words,
    *cell: object,
) -> tuple[list[Row], list[Row]]:
    """Scores by n-grams, with those by n-grams of shuffled tokens as null, and explanations of them."""
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
        explanations.append(explained_row(latent, NGRAM, text))
    progress.close()
    return rows, explanations


class Shown:
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
        """A candidate by its number in the dictionary."""
        return self.candidates[self._number[name]]

    def train_texts(self, name: int) -> list[str]:
        """Marked windows of `train`, strongest first, that a latent is explained by."""
        acts = self.read.train.of(self._number[name])
        rng = generator("interpret-shown", *self.cell, name)
        return shown_texts(acts, self.train, self.words, self.settings.train_examples, rng)

    def test_words(self, asked: Items) -> list[list[str]]:
        """Words of the windows of `test` that are asked about."""
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


def by_model(
    name: str,
    model: Scorer,
    shown: Shown,
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
    model: Scorer, quantity: str, explanation: str, shown: Shown, asked: Items
) -> tuple[float, int]:
    """Balanced accuracy over what could be read, and over how many windows it is."""
    texts = explain.texts_of(quantity, shown.test_words(asked), asked)
    said = explain.decide(model, quantity, explanation, texts)
    known = np.isfinite(said)
    if not known.any():
        return float("nan"), 0
    return balanced_accuracy(said[known] > 0.5, asked.fires_i[known]), int(known.sum())
