"""The answer of a run in sentences. Every figure in them is read from the tables, and each
judgement is a comparison of figures, so that another run may say the opposite."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crossseed.claim_rule import ALPHA, NOTICEABLE
from crossseed.claims.verdicts import NOT_RUN
from crossseed.haar.power import IID, PULL
from crossseed.haar.sizes import SMALLEST
from crossseed.report import absorption, constructive, interpret, interventions, lenses, stability
from crossseed.report import tables as t
from crossseed.report.spreads import Spread, spread

NULLS = ("random", "shuffled", "covariance_random", "covariance_skewness", "gaussian")
BASELINES = ("raw", "mean")
ARM_WORDS = {
    "mean": "mean shift alone",
    "random": "random rotation",
    "shuffled": "rotation fitted on shuffled tokens",
    "covariance_random": "principal axes matched by rank, signs at random",
    "covariance_skewness": "principal axes matched by rank, signs by skewness",
    "untrained": "rotation from the target before training",
    "gaussian": "Gaussian noise with the target's mean and covariance",
    "permutation": "permutation of the dimensions",
    "procrustes": "Procrustes rotation",
    "ridge": "ridge affine map",
    "raw": "raw",
    "self": "own model",
    "shared": "one rotation for all sites of the pair",
    "resampled": "own activations, there and back by rotations of two halves of the tokens",
}


def spreads(tables: t.Tables, cohort: str, dictionary: str, metric: str) -> dict[str, Spread]:
    """Spread by arm over the sites where the models' activations differ."""
    skip = t.same_sites(tables.fits, cohort)
    found = t.values(tables.transfer, cohort, dictionary, metric, skip)
    return {arm: s for arm, values in found.items() if (s := spread(values)) is not None}


def map_spreads(tables: t.Tables, cohort: str, metric: str) -> dict[str, Spread]:
    """The same of a metric of the maps themselves."""
    found = t.map_values(tables.fits, cohort, metric, t.same_sites(tables.fits, cohort))
    return {arm: s for arm, values in found.items() if (s := spread(values)) is not None}


def reconstruction(ev: dict[str, Spread]) -> list[str]:
    """What explained variance says of one cohort and dictionary."""
    raw, rotated, itself = ev["raw"], ev["procrustes"], ev["self"]
    sentences = [
        f"On held-out tokens the dictionary explains {itself} of the variance of its own model, "
        f"{raw} of another seed's raw activations, and {rotated} after one Procrustes rotation "
        "(median, and range over pairs and sites)."
    ]
    best = max((ev[name].median, name) for name in NULLS if name in ev)
    if rotated.median - raw.median < NOTICEABLE:
        sentences.append("The rotation gains nothing noticeable over the raw activations.")
    elif rotated.median - best[0] < NOTICEABLE:
        sentences.append(
            f"That gain is no evidence of shared features: {ARM_WORDS[best[1]]}, in which no token "
            f"is matched to its own, is explained to {ev[best[1]]}. Explained variance of the "
            "dictionary's own input is a statement about first and second moments here."
        )
    else:
        sentences.append(
            f"The best control, {ARM_WORDS[best[1]]}, is explained to {ev[best[1]]}: "
            f"{rotated.median - best[0]:.2f} less than the Procrustes arm."
        )
    return sentences


def features(
    firing: dict[str, Spread], above: dict[str, Spread], alignment: dict[str, Spread]
) -> list[str]:
    """What firing correlation and the fit of the map say of one cohort and dictionary."""
    rotated, raw = firing.get("procrustes"), firing.get("raw")
    controls = [(firing[name].median, name) for name in (*NULLS, *BASELINES) if name in firing]
    if rotated is None or raw is None or not controls:
        return ["No latent is live in both models, so nothing can be said of single features."]
    best = max(controls)
    sentences = [
        f"Token by token, the same latents fire with a mean correlation of {rotated} after the "
        f"rotation, {raw} raw, and {firing[best[1]]} under the best other arm "
        f"({ARM_WORDS[best[1]]})."
    ]
    if rotated.median - best[0] < NOTICEABLE:
        sentences.append("The rotation carries no feature beyond what that arm carries.")
    else:
        sentences.append(
            f"So the rotation does carry features, to a correlation {rotated.median - best[0]:.2f} "
            f"above that; {_percent(above['procrustes'].median)} of the live latents correlate "
            "above .5."
        )
    sentences.append(
        f"The map itself explains {alignment['procrustes']} of the source's activations from "
        f"the target's, against {alignment['shuffled']} when fitted on shuffled tokens."
    )
    if alignment["procrustes"].low < 0:
        sentences.append(
            "A fit below 0 means that the two models differ in the size of their activations there: "
            "an orthogonal map turns but cannot rescale."
        )
    return sentences


JUDGED_WORDS = {
    "evx_3": "EVx beyond three principal directions",
    "firing_r": "firing correlation",
    "ce_recovered": "cross-entropy recovered",
    "kl_recovered": "divergence undone",
}


def claim_rule(tables: t.Tables, cohort: str, dictionary: str) -> list[str]:
    """In how many cells Procrustes lies above every null without pairing; the published explained
    variance beside what is measured token by token."""
    skip = t.same_sites(tables.fits, cohort)
    rows = tables.evidence
    rows = rows[(rows.cohort == cohort) & (rows.dictionary == dictionary) & ~rows.site.isin(skip)]
    counts = []
    for metric, words in JUDGED_WORDS.items():
        part = rows[rows.metric == metric]
        if len(part):
            counts.append(
                f"by {words} in {part.shared.sum():.0f} of {len(part)} (median difference "
                f"{part.delta.median():.2f})"
            )
    if not counts:
        return []
    published = rows[rows.metric == "ev_published"]
    sentence = (
        "The claim rule, Procrustes above the best null that knows no pairing, its 95 % interval "
        f"above 0, calls the features shared {', '.join(counts)} cells of pair, site and start."
    )
    if len(published):
        sentence += (
            f" The published explained variance is {published.procrustes.median():.2f} under "
            f"Procrustes and {published.null.median():.2f} under that null."
        )
    return [sentence]


# Share of draws in which a test must reject to be said to see an alternative.
SEEN = 0.8
COMPANIONS = {
    "cka": "debiased linear CKA",
    "svcca": "SVCCA",
    "mutual_knn": "mutual nearest neighbours",
    "shape_distance_rad": "shape distance in radians",
}


def companions(tables: t.Tables, cohort: str) -> list[str]:
    """Similarity of the members' activations that no rotation changes, beside its null."""
    skip = t.same_sites(tables.fits, cohort)
    rows = tables.fits[(tables.fits.cohort == cohort) & ~tables.fits.site.isin(skip)]
    told = []
    for metric, words in COMPANIONS.items():
        part = rows[rows.metric == metric]
        own, null = (part[part.arm == arm].value.dropna() for arm in ("pair", "pair_shuffled"))
        if len(own) and len(null):
            told.append(f"{words} {own.median():.2f} against {null.median():.2f}")
    if not told:
        return []
    sentence = (
        "What no rotation changes, pairs of tokens against pairs shuffled within their position "
        f"(medians): {', '.join(told)}."
    )
    p = rows[rows.metric == "cka_p"].value.dropna()
    if len(p):
        sentence += (
            f" CKA exceeds that of permutations within position at p ≤ .05 in {(p <= ALPHA).sum()} "
            f"of {len(p)} pairs and sites."
        )
    return [sentence]


def haar(tables: t.Tables, cohort: str) -> list[str]:
    """What the calibrated battery says of a cohort's rotations."""
    rows = tables.haar[tables.haar.cohort == cohort]
    rows = rows[~rows.site.isin(t.same_sites(tables.fits, cohort))]
    if rows.empty:
        return []
    tests = rows[rows.holm.notna() & (rows.basis != "across")]
    cells = len(rows[rows.basis != "across"].drop_duplicates(t.PAIR))
    sentences = []
    whole = tests[tests.subspace == "whole"]
    if len(whole):
        told = _rejected(whole[whole.basis == "neuron"])
        count, n = told["procrustes"]
        sentences.append(
            f"Of {n} rotations that the activations decide wholly, {count} are told from a Haar draw by "
            "their eigenangles, or entries in the neuron basis, at a calibrated p ≤ .05, Holm-corrected "
            f"within each (by chance at most {ALPHA * n:.1f})"
            + _controls(told)
            + f". {whole.target_seed.nunique()} of their pairs are independent; the sites of a pair are "
            "not." + _detectable(tables.power, int(whole.dimensions.max()))
        )
        told = _rejected(whole[whole.basis == "principal"])
        if told:
            count, n = told["procrustes"]
            sentences.append(
                f"By entries in each side's principal basis {count} of {n} are told from Haar"
                + _controls(told)
                + _inside(count, told.get("shuffled", (0, 1)))
            )
    inside = tests[tests.subspace == "identified"]
    if len(inside):
        told, size = _rejected(inside), inside.dimensions.median()
        count, n = told["procrustes"]
        sentences.append(
            f"Inside the identified directions ({size:.0f} in the median), by the entries in each "
            f"side's principal basis, {count} of {n} are told from Haar"
            + _controls(told)
            + _inside(count, told.get("shuffled", (0, 1)))
        )
    untested = cells - len(tests.drop_duplicates(t.PAIR))
    if untested:
        sentences.append(
            f"In {untested} of {cells} pairs and sites fewer than {SMALLEST} directions are identified, "
            "and nothing is tested."
        )
    sentences += _ks(tables.ks[tables.ks.cohort == cohort])
    cocycle = tables.cocycle[tables.cocycle.cohort == cohort]
    cocycle = cocycle[~cocycle.site.isin(t.same_sites(tables.fits, cohort))]
    if len(cocycle):
        sentence = (
            "Composed around three seeds, each fit on documents of its own, rotations return to the "
            f"identity, weighted by covariance, to τ = {spread(cocycle.tau_weighted)}; fitted on "
            f"shuffled tokens to {spread(cocycle.tau_weighted_shuffled)}."
        )
        known = cocycle[cocycle.decided == 1]
        if len(known):
            sentence += f" Unweighted, where all three are decided, τ = {spread(known.tau)}."
        sentences.append(sentence)
    return sentences


def _rejected(tests: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """By map: matrices of which some test rejects Haar, and all."""
    found = {}
    for name, part in tests.groupby("map"):
        lowest = part.groupby(t.PAIR).holm.min()
        found[str(name)] = int((lowest <= ALPHA).sum()), len(lowest)
    return found


def _controls(told: dict[str, tuple[int, int]]) -> str:
    words = {
        "shuffled": "fitted on shuffled tokens",
        "covariance_random": "from matched principal axes",
    }
    return "".join(
        f"; {said} {told[k][0]} of {told[k][1]}" for k, said in words.items() if k in told
    )


def _inside(count: int, shuffled: tuple[int, int]) -> str:
    """What a rejection between principal directions means, beside that of shuffled tokens."""
    from scipy.stats import binom

    if not count:
        return ": consistent with Haar there, and no more than that."
    said = ": principal axes of the two models correspond more than chance would have it"
    # More of them than a test of this level lets through where nothing is to be found.
    found, n = shuffled
    also = binom.sf(found - 1, n, ALPHA) < ALPHA
    return f"{said}, but so they do where only positions are paired." if also else f"{said}."


def _detectable(power: pd.DataFrame, d: int) -> str:
    """The smallest pull towards the identity that some calibrated test sees."""
    rows = power[(power.d == d) & (power.alternative == PULL) & (power.test != IID)]
    seen = rows[rows.rejected >= SEEN].strength
    if seen.empty:
        return ""
    return (
        f" The smallest pull towards the identity, of those tried, that some test sees in "
        f"{_percent(SEEN)} of draws is {seen.min():g}."
    )


def _ks(rows: pd.DataFrame) -> list[str]:
    """The published test of eigenphases, beside the calibrated one."""
    one = rows[rows.matrices == 1]
    own, shuffled = one[one["map"] == "procrustes"], one[one["map"] == "shuffled"]
    if own.empty:
        return []
    text = (
        "The published test of eigenphases, which takes them as independent, has a median p of "
        f"{own.p_published.median():.2g} over {len(own)} rotations, and of "
        f"{shuffled.p_published.median():.2g} for rotations fitted on shuffled tokens"
    )
    known = own.p.dropna()
    if known.empty:
        return [
            f"{text}; none of them is decided by the activations, so none is tested as a whole."
        ]
    return [
        f"{text}; calibrated, on the {len(known)} that the activations decide, p lies between "
        f"{known.min():.2g} and {known.max():.2g}."
    ]


def claims(tables: t.Tables) -> dict[str, Any]:
    """Published figures by verdict: rows that were measured, and what the others need."""
    rows = tables.claims
    if rows.empty:
        return {}
    measured = rows[rows.verdict != NOT_RUN]
    counts = measured.verdict.value_counts()
    needs = rows[rows.verdict == NOT_RUN].groupby("why").claim.count()

    def cell(value: float, low: float, high: float) -> tuple[str, str]:
        said = "–" if pd.isna(value) else f"{value:.3g}"
        return said, "" if pd.isna(low) else f"{low:.3g} to {high:.3g}"

    return {
        "counts": [(verdict, int(n)) for verdict, n in counts.items()],
        "needs": [(why, int(n)) for why, n in needs.items()],
        "rows": [
            {
                "quantity": row.quantity,
                "cohort": row.cohort,
                "site": row.site,
                "published": f"{row.published_low:g}"
                + (
                    "" if row.published_low == row.published_high else f" to {row.published_high:g}"
                ),
                "as_published": cell(row.as_published, row.as_published_low, row.as_published_high),
                "rigorous": cell(row.rigorous, row.low, row.high),
                "null": cell(row.null, float("nan"), float("nan")),
                "verdict": row.verdict,
                "why": row.why,
            }
            for row in measured.itertuples()
        ],
    }


def decoder_cosines(tables: t.Tables, cohort: str, dictionary: str) -> list[str]:
    """What decoder cosines say, split by init and basis, and what that makes of the
    published 98 % of columns above .5 (arXiv 2605.24577)."""
    skip = t.same_sites(tables.fits, cohort)
    rows = tables.decoder_cosine
    rows = rows[(rows.cohort == cohort) & (rows.dictionary == dictionary) & ~rows.site.isin(skip)]
    by = dict(list(rows.groupby(["init", "map"])))
    shared, independent = by.get(("shared", "raw")), by.get(("independent", "raw"))
    rotated = by.get(("independent", "rotated"))
    if shared is None or independent is None or rotated is None:
        return []
    floor = float(rows.random_floor.mean())
    sentences = [
        f"Between SAEs that start from the same weights the raw decoder cosine is "
        f"{shared.mean_max_cosine.mean():.2f}, {_percent(shared['share_above_0.5'].mean())} of "
        f"the columns lie above .5, and {_percent(shared.same_index_share.mean())} of the best "
        "matches have the same index. Between SAEs with independent starts it is "
        f"{independent.mean_max_cosine.mean():.2f} raw and {rotated.mean_max_cosine.mean():.2f} "
        f"after rotation, with {_percent(independent['share_above_0.5'].mean())} raw above .5; "
        f"random directions give {floor:.2f}."
    ]
    drift = tables.dictionaries
    drift = drift[
        (drift.cohort == cohort)
        & (drift.dictionary == dictionary)
        & (drift.init == "shared")
        & (drift.metric == "cosine_to_init")
        & ~drift.site.isin(skip)
    ]
    excess_shared = float(shared.mean_max_cosine.mean()) - floor
    excess_independent = float(independent.mean_max_cosine.mean()) - floor
    if excess_shared > NOTICEABLE and excess_independent < NOTICEABLE:
        sentences.append(
            "The published “98 % of decoder columns agree” compares SAEs of one initialisation. "
            f"In this run such columns keep a cosine of {drift.value.mean():.2f} with their own "
            "starting values: they agree because they did not leave a common start, not because "
            "the models share features. With independent starts the raw agreement is gone"
            + (
                ", and the rotation does not bring it back."
                if float(rotated.mean_max_cosine.mean()) - floor < NOTICEABLE
                else f"; the rotation brings it to {rotated.mean_max_cosine.mean():.2f}."
            )
        )
    elif excess_independent >= NOTICEABLE:
        sentences.append(
            "Here raw columns agree above the floor even with independent starts, so in this "
            "cohort the published figure is not explained by the initialisation alone."
        )
    else:
        sentences.append("Here even a shared start leaves no agreement above the floor.")
    return sentences


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def quality(tables: t.Tables) -> list[dict[str, Any]]:
    """Final held-out measures of the trained models, one table for all cohorts with equal columns.

    Returns:
        Dicts with ``columns`` (distribution, measure) and ``rows`` (cohort, seed, values as text).
    """
    rows = tables.quality
    last = rows[rows.step == rows.groupby(["cohort", "seed"]).step.transform("max")]
    found: dict[tuple[Any, ...], list[tuple[str, int, list[str]]]] = {}
    for (cohort, seed), part in last.groupby(["cohort", "seed"]):
        columns = tuple(zip(part.distribution, part.measure, strict=True))
        texts = [
            _measure(name, value) for name, value in zip(part.measure, part.value, strict=True)
        ]
        found.setdefault(columns, []).append((cohort, seed, texts))
    return [
        {"columns": [(d, m.replace("_", " ")) for d, m in columns], "rows": entries}
        for columns, entries in found.items()
    ]


def _measure(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name.startswith("accuracy") else f"{value:.3f}"


def language_models(tables: t.Tables) -> list[str]:
    """Whether the language models that the run trained beat models that only count."""
    rows = tables.quality[tables.quality.measure.str.endswith("loss_nats")]
    last = rows[rows.step == rows.groupby(["cohort", "seed"]).step.transform("max")]
    sentences = []
    for cohort, part in last.groupby("cohort"):
        worst = part.groupby("measure").value.max()
        best = part.groupby("measure").value.min()
        if not {"loss_nats", "unigram_loss_nats", "bigram_loss_nats"} <= set(worst.index):
            continue
        beaten = worst["loss_nats"] < best["bigram_loss_nats"]
        sentences.append(
            f"On text that no model of {cohort} was trained on, the worst seed has a loss of "
            f"{worst['loss_nats']:.2f} nats a token, against {best['unigram_loss_nats']:.2f} of a "
            f"unigram and {best['bigram_loss_nats']:.2f} of a bigram model counted on the training "
            "text: "
            + ("every seed beats both." if beaten else "not every seed has learnt more than pairs.")
        )
    return sentences


def drift(tables: t.Tables, cohort: str, about: dict[str, Any]) -> list[str]:
    """What the drift study says of one cohort: over training, and between seeds."""
    rows = tables.drift[tables.drift.cohort == cohort]
    if rows.empty:
        return []
    sentences = []
    moved = rows[(rows.comparison == "checkpoint") & (rows.checkpoint != rows.other_checkpoint)]
    if len(moved):
        sentences += _drift_sentences(
            moved, "an earlier checkpoint and the reference of the same seed"
        )
    for dictionary, part in rows[rows.metric == "ev"].groupby("dictionary"):
        arms = {arm: spread(values.value) for arm, values in part.groupby("arm")}
        sentences.append(
            f"{dictionary} of the reference explains {arms['self']} of its own model, "
            f"{arms['raw']} of other checkpoints raw, {arms['procrustes']} rotated, and "
            f"{arms['shuffled']} after a rotation fitted on shuffled tokens."
        )
    apart = rows[(rows.comparison == "seed") & (rows.seed != rows.other_seed)]
    if len(apart):
        sentences += _drift_sentences(apart, "a seed and the anchor at the same checkpoint")
    ranks = rows[rows.metric == "numerical_rank"]
    if about["width"] and len(ranks):
        deficient = sorted(ranks[ranks.value < about["width"]].site.unique())
        if deficient:
            sentences.append(
                f"At {', '.join(deficient)} the activations of some pair do not span all "
                f"{about['width']} dimensions: there part of the rotation is arbitrary, and only its "
                "distance inside the identified directions means anything."
            )
    return sentences


def _drift_sentences(rows: pd.DataFrame, between: str) -> list[str]:
    """Fits and distances of one comparison, beside what chance gives."""
    fits = rows[rows.metric == "alignment_ev"]
    by_arm = {arm: spread(part.value) for arm, part in fits.groupby("arm")}
    distances = rows[rows.metric == "rotation_distance_identified"]
    by = {arm: part.value.median() for arm, part in distances.groupby("arm")}
    rank = rows[rows.metric == "identified_rank"].value.median()
    inside = (
        f"there the rotation lies {by['procrustes']:.2f} from the identity in the median, a random "
        f"one {by['haar']:.2f}."
        if by
        else "so no distance from the identity means anything."
    )
    return [
        f"Between {between}, the identity explains {by_arm['raw']} of the activations, a rotation "
        f"{by_arm['procrustes']}, one fitted on shuffled tokens {by_arm['shuffled']} (median, and "
        "range over seeds, checkpoints and sites). Fits on two halves of the tokens agree in "
        f"{rank:.0f} directions in the median; {inside}"
    ]


def of_cohort(tables: t.Tables, cohort: str, info: dict[str, Any]) -> dict[str, Any]:
    """All that the page says of one cohort."""
    skip = sorted(t.same_sites(tables.fits, cohort))
    rows = t.crossed(tables.transfer[tables.transfer.cohort == cohort])
    sections = []
    for dictionary in sorted(rows.dictionary.unique()):
        ev = spreads(tables, cohort, dictionary, "ev")
        firing = spreads(tables, cohort, dictionary, "firing_r")
        above = spreads(tables, cohort, dictionary, "firing_r_above_0.5")
        alignment = map_spreads(tables, cohort, "alignment_ev")
        l0 = spreads(tables, cohort, dictionary, "l0")
        if not {"raw", "procrustes", "self"} <= set(ev):
            continue
        sentences = reconstruction(ev) + features(firing, above, alignment)
        sentences += claim_rule(tables, cohort, dictionary)
        sentences += decoder_cosines(tables, cohort, dictionary)
        if info["width"] and "self" in l0 and l0["self"].median > info["width"]:
            sentences.append(
                f"This dictionary is not sparse: {l0['self'].median:.0f} latents are active per "
                f"token in {info['width']} dimensions."
            )
        rungs = ("permutation", "shared", "procrustes", "ridge")
        arms = ("self", "resampled", *BASELINES, *NULLS, "untrained", *rungs)
        sections.append(
            {
                "dictionary": dictionary,
                "sentences": sentences,
                "rows": [
                    {
                        "arm": ARM_WORDS[arm],
                        "ev": ev.get(arm),
                        "firing": firing.get(arm),
                        "alignment": alignment.get(arm),
                    }
                    for arm in arms
                    if arm in ev
                ],
            }
        )
    said = {
        "sections": sections,
        "companions": companions(tables, cohort),
        "haar": haar(tables, cohort),
        "ports": interventions.ports(tables, cohort),
        "steering": interventions.steering(tables, cohort),
        "regimes": interventions.regimes(tables, cohort),
        "features": interventions.features(tables, cohort),
        "attribution": interventions.attribution(tables, cohort),
        "stability": stability.of_cohort(tables, cohort),
        "absorption": absorption.of_cohort(tables, cohort),
        "interpret": interpret.of_cohort(tables, cohort),
        "weights": constructive.weights(tables, cohort),
        "bars": constructive.bars(tables, cohort),
        "lenses": lenses.of_cohort(tables, cohort),
        "drift": drift(tables, cohort, info),
    }
    return {
        "name": cohort,
        "same_sites": skip,
        # Of cohorts that only joint SAEs are trained on, all is said there.
        "silent": not any(said.values()),
        **said,
        **info,
    }
