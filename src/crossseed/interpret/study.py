"""Latents of the first SAE of a cell scored by in how many of the others they are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crossseed.activations import SplitReader
from crossseed.cohorts.base import Words
from crossseed.errors import UserError
from crossseed.interpret import NGRAM, ngrams
from crossseed.interpret.chat import Scorer
from crossseed.interpret.contexts import Items, Windows, firings, items, windows
from crossseed.interpret.latents import Latent, Read, Row, Settings, drawn
from crossseed.interpret.scores import Shown, by_model, by_ngrams, explained_row
from crossseed.interpret.similarity import Embed, similarity_rows
from crossseed.interpret.steps import steps_over_latents
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

# Windows of either kind that a latent needs in `eval`.
LEAST_TEST = 10


class Found(NamedTuple):
    """Attributes: rows, steps: of `COLUMNS` and `STEP_COLUMNS`, without the cell's. explanations: a line each.
    windows, read: what was scored, of `train` and `eval`. latents: the numbers that `read` is of."""

    rows: list[Row]
    steps: list[Row]
    explanations: list[Row]
    windows: tuple[Windows, Windows]
    read: Read
    latents: list[int]


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
    rows, explanations = by_ngrams(every, candidates, chosen, asked, read, train, words, *cell)
    texts: dict[str, dict[int, str]] = {
        NGRAM: {of["latent"]: of["explanation"] for of in explanations}
    }
    shown = Shown(settings, candidates, read, train, test, words, cell)
    if scorer is not None:
        name, model = scorer
        more, texts[name] = by_model(name, model, shown, chosen, asked, *cell)
        rows += more
        explanations += [
            explained_row(shown.latent(number), name, text) for number, text in texts[name].items()
        ]
    for of in explanations:
        of["shown"] = shown.train_texts(of["latent"])
    steps = steps_over_latents(rows, latents, least, *cell)
    if embed is not None:
        steps += similarity_rows(settings, dictionaries[1], splits, (train, test), every, words, scorer, embed, shown, texts, *cell)  # fmt: skip
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
