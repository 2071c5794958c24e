"""What both models still say of held-out tokens with the SAE in their passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from crossseed.errors import UserError
from crossseed.joint import losses
from crossseed.joint.config import JointEvaluation
from crossseed.joint.model import JointSAE
from crossseed.joint.upper import Cache, Upper
from crossseed.metrics import ErrorSums, Estimate, estimate, resample_weights, sum_units, unit_of
from crossseed.seeding import generator

# That are passed at a time.
EXAMPLES = 64


class Behaviour(NamedTuple):
    """What happens to both models, or one, with the SAE in their passes.

    Attributes:
        errors: sums behind L0 and explained variance of each, by unit of examples.
        unit_e: the unit that each example belongs to, non-decreasing.
        kl_em: KL(clean ‖ hijacked) in nats, (examples, models).
        clean_em, hijacked_em: share of the predictions that are right: of a classifier 0 or 1.
    """

    errors: tuple[ErrorSums, ...]
    unit_e: np.ndarray
    kl_em: np.ndarray
    clean_em: np.ndarray
    hijacked_em: np.ndarray


@torch.no_grad()
def behaviour(sae: JointSAE, uppers: Sequence[Upper], cache: Cache) -> Behaviour:
    """Passes every example through the SAE and on through the models above.

    Args:
        uppers: of models A and B.
    """
    unit = unit_of(cache.document)
    errors = tuple(ErrorSums(int(unit[-1]) + 1, cache.width) for _ in sae.models)
    kl, clean, hijacked = (np.zeros((len(cache), len(sae.models))) for _ in range(3))
    special = sae.config.special_tokens
    for first in range(0, len(cache), EXAMPLES):
        rows = np.arange(first, min(first + EXAMPLES, len(cache)))
        found = cache.batch(rows, special, sae.device, sae.models)
        passed = sae([found.coded(m) for m in sae.models])
        of_token = np.repeat(unit[rows], cache.coded(special)[rows].sum(axis=1))
        starts = np.flatnonzero(np.r_[True, of_token[1:] != of_token[:-1]])
        units = slice(int(of_token[0]), int(of_token[-1]) + 1)
        for place, model in enumerate(sae.models):
            native = passed.native[place]
            _, logits = uppers[model](found.hijacked(model, native), found.mask_bl, found.at_bp)
            kl[rows, place] = losses.divergence(found.logits_mbc[model], logits).cpu().numpy()
            own = cache.logits[model][rows].argmax(axis=-1)
            for right, said in ((hijacked, logits.argmax(dim=-1).cpu().numpy()), (clean, own)):
                agrees = said == cache.labels[rows]
                right[rows, place] = agrees.reshape(len(rows), -1).mean(axis=1)
            l0 = (passed.codes[place].values_nk != 0).sum(dim=1)
            h, back = found.coded(model).cpu().numpy(), native.cpu().numpy()
            errors[place].add(units, starts, h, back, l0.cpu().numpy())
    return Behaviour(errors, unit, kl, clean, hijacked)


def side_by_side(a: Behaviour, b: Behaviour) -> Behaviour:
    """Of the independent SAEs of A and of B."""
    arrays = (np.hstack(pair) for pair in zip(a[2:], b[2:], strict=True))
    return Behaviour(a.errors + b.errors, a.unit_e, *arrays)


def behaviour_rows(
    found: Behaviour, config: JointEvaluation, *name: object, independent: Behaviour | None = None
) -> dict[str, Estimate]:
    """Means over models, with intervals over examples.

    Args:
        independent: of the independent SAEs on the same examples, for the second reading of the accuracy change.

    Returns:
        ``l0``, ``fvu``, ``kl`` (nats), ``accuracy_clean`` and ``accuracy_hijacked`` (%), ``accuracy_change``: clean less
        hijacked, in points, below 0 an improvement (table C3's caption); and
        ``accuracy_change_from_independent``: that of the independent SAEs less this one's (the study's section 4).

    Raises:
        UserError: the independent SAEs were measured on other examples or models.
    """
    unit = found.unit_e
    starts = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]])
    weights = resample_weights(generator("bootstrap", *name), len(starts), config.resamples)
    sizes = weights @ np.bincount(unit).astype(float)

    def mean(values_em: np.ndarray) -> np.ndarray:
        rows: np.ndarray = (weights @ sum_units(values_em.mean(axis=1), starts)) / sizes
        return rows

    clean, hijacked = 100 * mean(found.clean_em), 100 * mean(found.hijacked_em)
    rows = {
        "l0": np.mean([one.l0(weights) for one in found.errors], axis=0),
        "fvu": np.mean([one.fvu(weights) for one in found.errors], axis=0),
        "kl": mean(found.kl_em),
        "accuracy_clean": clean,
        "accuracy_hijacked": hijacked,
        "accuracy_change": clean - hijacked,
    }
    if independent is not None:
        if independent.hijacked_em.shape != found.hijacked_em.shape:
            raise UserError(
                f"the independent SAEs were measured on {independent.hijacked_em.shape} examples and models, the others on "
                f"{found.hijacked_em.shape}; measure both on the same split"
            )
        rows["accuracy_change_from_independent"] = 100 * mean(independent.hijacked_em) - hijacked
    return {key: estimate(values) for key, values in rows.items()}
