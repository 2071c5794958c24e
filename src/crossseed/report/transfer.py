"""What the page says of dictionaries tried on other members: reconstruction, features, decoder cosines."""

from __future__ import annotations

from crossseed.claim_rule import ALPHA, NOTICEABLE
from crossseed.report import tables as t
from crossseed.report.spreads import Spread, percent, spread

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
            f"above that; {percent(above['procrustes'].median)} of the live latents correlate "
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
        f"{shared.mean_max_cosine.mean():.2f}, {percent(shared['share_above_0.5'].mean())} of "
        f"the columns lie above .5, and {percent(shared.same_index_share.mean())} of the best "
        "matches have the same index. Between SAEs with independent starts it is "
        f"{independent.mean_max_cosine.mean():.2f} raw and {rotated.mean_max_cosine.mean():.2f} "
        f"after rotation, with {percent(independent['share_above_0.5'].mean())} raw above .5; "
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
