"""What pages of docs/ quote of the default run: pieces of their text, with a figure of `default_studies.csv` in each brace.

    {figure}      as pages have numbers: .97, −2.5, 11.2
    {figure|n}    a whole number
    {figure|4}    four decimals
    {figure|%}    two digits of a percentage

In pieces of a page of two cohorts, `i.` and `s.` begin what is of `dyck-independent` and of `dyck-shared`.
"""

from __future__ import annotations

import re

from answer import bare, short

COHORTS = {"i.": "independent.", "s.": "shared."}
CONCEPTS = ("closer_signal", "sticky_suppression", "depth_shift")
WORDS = {"i": "nothing shared", "s": "embeddings shared"}
STEERED = ("mapped", "raw", "mismatched", "shuffled")
TRIED = (
    ("integrated gradients, right Riemann sum, 32 points | 64", "right.32"),
    ("midpoint rule, 16 points | 32", "midpoint.16"),
    ("midpoint rule, 8 points | 16", "midpoint.8"),
    ("midpoint rule, 4 points | 8", "midpoint.4"),
    ("Gauss–Legendre, 8 points | 16", "gauss.8"),
    ("Gauss–Legendre, 4 points | 8", "gauss.4"),
)
BESIDE = (
    ("attribution patching | .20", "patching.1"),
    ("*null:* ablating another batch | 1", "other_batch.0"),
    ("*null:* ablating one sequence of the batch | .17", "one_sequence.0"),
)
SIZES = (("size of the output | 0", "size.0"), ("size times gradient | .20", "gradient_size.1"))
CANDIDATES = {
    "another seed": "sibling",
    "depths averaged (published decoy)": "averaged",
    "split, then taught to behave alike": "taught",
}
ALIGNED = {
    "best of all symmetries": "aligned",
    "the same search on the untrained model": "untrained",
    "published search": "published",
    "published search, rotation mended": "mended",
    "random elements": "random",
}


def both(text: str) -> str:
    """A piece of `dyck-independent` and, after a slash, the same of `dyck-shared`."""
    return f"{text} / {text.replace('{i.', '{s.')}"


def ranged(figure: str, how: str = "") -> str:
    return f"{{{figure}{how}}} ({{{figure}.low{how}}} to {{{figure}.high{how}}})"


PAGES = {
    "steering": [
        *(
            f"| `{concept}` | {WORDS[c]} | " + " | ".join(f"{{{c}.{concept}.{arm}}}" for arm in STEERED)
            + f" | {{{c}.{concept}.low}} to {{{c}.{concept}.high}} |"
            for c in WORDS
            for concept in CONCEPTS
        ),
        *(
            f"| {WORDS[c]} | {{{c}.works|n}} | " + " | ".join(f"{{{c}.beyond.{arm}|n}}" for arm in ("native", *STEERED))
            for c in WORDS
        ),
        "rank correlation of {s.pinned.rank_correlation} with the raw ratio over {s.pinned.vectors|n} vectors, "
        "and of {i.pinned.rank_correlation} over {i.pinned.vectors|n} where",
        "`closer_signal` has {i.closer_signal.raw} in one cohort and {s.closer_signal.raw} in the other",
        "{i.inverted|n} of {i.works|n} raw vectors move the logit the other way",
    ],
    "attribution": [
        "{models|n} toy models, {cells|n} cells each",
        *(f"| {words} | {ranged(f'{name}.pearson', '|4')} | {{{name}.relative_error|%}} % |" for words, name in TRIED),
        *(f"| {words} | {ranged(f'{name}.pearson')} | {{{name}.relative_error|%}} % |" for words, name in BESIDE),
        *(f"| *null:* {words} | {ranged(f'{name}.pearson')} | – |" for words, name in SIZES),
    ],
    "single-latents": [
        f"| agreement | {ranged('i.agreement.ported')} | {{i.agreement.raw}} | {{i.agreement.shuffled}} | {{i.agreement.random}} | "
        "{i.agreement.direction} | {i.agreement.other_latent} | – |",
        f"| area under the substitution curve | {ranged('i.auc.ported')} | {{i.auc.raw}} | {{i.auc.shuffled}} | {{i.auc.random}} | "
        "– | – | {i.auc.permuted} |",
        f"| transfer ratio, as published | {ranged('i.transfer_ratio.ported')} | {ranged('i.transfer_ratio.raw')} | – | – | "
        f"{ranged('i.transfer_ratio.direction')} | – | – |",
        "agreement {s.agreement.ported} rotated and {s.agreement.raw} raw ({s.agreement.direction} of a random direction), "
        "area {s.auc.ported} and {s.auc.raw}.",
        "a dictionary with {i.l0|n} latents active",
    ],
    "rotation": [
        "in {i.evidence.evx_3.shared|n} of {i.evidence.evx_3.cells|n} cells of `dyck-independent` by EVx",
        "in {i.evidence.firing_r.shared|n} of {i.evidence.firing_r.cells|n} cells of `dyck-independent`",
        "in {i.evidence.ce_recovered.shared|n} of {i.evidence.ce_recovered.cells|n} cells of `dyck-independent`",
        "of `dyck-shared` in {s.evidence.evx_3.shared|n} of {s.evidence.evx_3.cells|n} by EVx, "
        "and in {s.evidence.firing_r.shared|n} of {s.evidence.firing_r.cells|n} by firing and",
        "in {s.evidence.ce_recovered.shared|n} of {s.evidence.ce_recovered.cells|n} by firing and by cross-entropy",
        "is {s.evidence.ev_published.null} and {i.evidence.ev_published.null} under maps that pair no token",
        "Procrustes carries {i.alignment.procrustes} of the activations, an affine map {i.alignment.ridge}, and one rotation for all "
        "sites {i.alignment.shared}; the ceiling is {i.alignment.resampled}.",
        "less than nothing ({s.alignment.procrustes.low} at the lowest)",
        "({s.alignment.procrustes.last} against {s.alignment.raw.last}) and recover less ({s.ce.procrustes.last}), until the rotation "
        "may rescale ({s.ce.scaled.last})",
        "({i.ce.twin_16.low} to {i.ce.twin_16.high} in `dyck-independent`, the whole rotation {i.ce.procrustes.low} to "
        "{i.ce.procrustes.high}); outside 4, less than nothing ({i.ce.twin_4.low} to {i.ce.twin_4.high})",
        "in `dyck-independent` is {i.topk.firing_r.procrustes} after the rotation, and {i.topk.firing_r.resampled} after the ceiling's",
    ],
    "haar": [
        "(ranks {i.rank.low|n} to {s.rank.high|n})",
        "p of {i.ks.procrustes} where nothing is shared and {s.ks.procrustes} where embeddings are, and of {i.ks.shuffled} and "
        "{s.ks.shuffled} for rotations fitted on shuffled tokens",
        "(τ weighted by covariance {i.tau} and {s.tau}; {i.tau.shuffled} and {s.tau.shuffled} on shuffled tokens)",
    ],
    "constructive": [
        *(
            f"| {words} | {ranged(f'i.relative_error.{arm}')} | {ranged(f's.relative_error.{arm}')} |"
            for words, arm in ALIGNED.items()
        ),
        "its medians are {i.lambda.published.low|n} to {i.lambda.published.high|n} where nothing is shared, against {i.lambda.closed_form} "
        "in closed form, and {s.lambda.published.low|n} to {s.lambda.published.high|n} with shared embeddings, against {s.lambda.closed_form}.",
        f"| the model itself | {both('{i.itself.Pr.rigorous}')} | {both('{i.itself.C.rigorous}')} | {both('{i.itself.Pr.rigorous.null}')} |",
        *(
            f"| {words} | {both(f'{{i.{name}.Pr.rigorous}}')} | {both(f'{{i.{name}.C.rigorous}}')} | "
            f"{both(f'{{i.{name}.Pr.rigorous.null}}')} | {both(f'{{i.{name}.C.rigorous.rejected|n}}')} | "
            f"{both(f'{{i.{name}.Pr.rigorous.rejected|n}}')} |"
            for words, name in CANDIDATES.items()
        ),
        "passes C and Pr at {s.itself.Pr.published.low|4} or more",
        "here {i.sibling.C.published} and {s.sibling.C.published} by its",
        "another seed is at {i.sibling.kl})",
        "{s.edges_kept|n} and {i.edges_kept|n} of {i.edges|n} edges stay",
        "random ones cost {s.loss_added.null|n} to {i.loss_added.null|n} nats",
    ],
    "tutorial": [
        "(`ev`) is {i.ev.procrustes} after the rotation and {i.ev.null} under the best null, firing correlation (`firing_r`) "
        "{i.firing_r.procrustes} and {i.firing_r.null}.",
    ],
}  # fmt: skip
BRACE = re.compile(r"\{([^}|]+)(?:\|(.))?\}")


def full(figure: str) -> str:
    return COHORTS.get(figure[:2], figure[:2]) + figure[2:]


def names(page: str) -> list[str]:
    """The figures that a page quotes, each once."""
    return list(dict.fromkeys(full(of) for piece in PAGES[page] for of, _ in BRACE.findall(piece)))


def filled(piece: str, values: dict[str, float]) -> str:
    """A piece with its figures, as the page is to have it."""

    def said(found: re.Match[str]) -> str:
        value, how = values[full(found[1])], found[2]
        if how == "n":
            return f"{value:.0f}"
        if how == "4":
            return bare(f"{value:.4f}")
        if how == "%":
            share = 100 * value
            return f"{share:.0f}" if share >= 10 else bare(f"{share:#.2g}")
        return plain(value)

    return BRACE.sub(said, piece)


def plain(value: float) -> str:
    """Two decimals, however small."""
    return short(str(value)) if abs(value) >= 0.01 else bare(f"{value:.2f}")
