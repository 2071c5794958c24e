"""How alike explanations of latents of two SAEs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from crossseed.activations import SplitReader
from crossseed.cohorts.base import Words
from crossseed.interpret import NGRAM, explain, ngrams
from crossseed.interpret.chat import NotReached, Scorer
from crossseed.interpret.contexts import Windows, firings
from crossseed.interpret.latents import Latent, Row, Settings
from crossseed.interpret.scores import NOT_REACHED, Shown, shown_texts
from crossseed.interpret.steps import mean_score, step_row
from crossseed.metrics import Estimate
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

Embed = Callable[[Sequence[str]], np.ndarray]


def similarity_rows(
    settings: Settings,
    other: Dictionary,
    splits: tuple[SplitReader, SplitReader],
    found: tuple[Windows, Windows],
    every: list[ngrams.Gram],
    words: Words,
    scorer: tuple[str, Scorer] | None,
    embed: Embed,
    shown: Shown,
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
        return [step_row(scorer, quantity, part, Estimate(float("nan")), note=note) for part in parts]  # fmt: skip
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
        step_row(scorer, quantity, part, mean_score(values), chance, n=len(values), note=note)
        for part, values, chance in zip(
            parts, (own[shared], own[~shared], anew), nulls, strict=True
        )
    ]
