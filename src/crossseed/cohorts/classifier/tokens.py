"""Token sets of cohorts of classifiers: sentences with their classes, each its own document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.cohorts.base import DEVELOPMENT, TokenSet
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.cohorts.classifier.data import sentences
from crossseed.cohorts.classifier.settings import ClassifierTokens
from crossseed.cohorts.text.corpus import part_of
from crossseed.errors import UserError

# The part of the data that each split is of.
PART_OF = {"fit": "train", "train": "train", "eval": "eval", DEVELOPMENT: "development"}


def make_tokens(
    spec: Mapping[str, Any], inputs: Sequence[Path], data: Sequence[Path] = ()
) -> tuple[dict[str, TokenSet], dict[str, Any]]:
    """Token sets by split, and what they were made from.

    Args:
        spec: ``data``, ``tokens``, and where the run makes no tokenizer ``tokenizer`` and ``folder``.
        inputs: files of the cohort's tokenizer.
        data: see `crossseed.cohorts.classifier.data.sentences`.

    Returns:
        Sets of which the label ``class`` is the number of the sentence's class at each of its positions; no
        two sequences are equal. Beside the splits `DEVELOPMENT`, all sentences of that part. Plain values: ``classes``, ``n_classes``, by split ``sentences`` a class,
        ``sentences_cut`` at the context, and ``digest`` of the data.

    Raises:
        UserError: see `crossseed.cohorts.classifier.data.sentences`; or too few sentences differ in tokens.
    """
    tokens = ClassifierTokens.model_validate(spec["tokens"])
    found = sentences(spec["data"], data)
    tokenizer = tk.load(inputs, spec)
    chosen: dict[str, tuple[tk.Encoded, np.ndarray]] = {}
    seen: set[bytes] = set()
    for split, part_of_data in PART_OF.items():
        texts, label_n = found.parts[part_of_data]
        encoded = tk.encode(tokenizer, texts, tokens.context)
        order = sorted(range(len(texts)), key=lambda i: part_of(texts[i], tokens.seed))
        wanted: int = getattr(tokens, split, len(texts))
        rows: list[int] = []
        for row in order:
            ids = encoded.tokens_nt[row]
            key = ids[ids != encoded.pad].tobytes()
            if len(rows) < wanted and key not in seen:
                seen.add(key)
                rows.append(row)
        if split != DEVELOPMENT and len(rows) < wanted:
            raise UserError(
                f"tokens.{split} = {wanted}, but only {len(rows)} of the {len(texts)} sentences it is drawn from "
                "give tokens of their own; lower it, or raise tokens.context"
            )
        taken = np.array(rows)
        part = encoded._replace(
            tokens_nt=encoded.tokens_nt[taken], special_nt=encoded.special_nt[taken]
        )
        chosen[split] = (part, label_n[taken])
    sets = {split: _set(*part, tokens.keep_special_tokens) for split, part in chosen.items()}
    counts = {
        split: {found.classes[label]: n for label, n in sorted(Counter(labels.tolist()).items())}
        for split, (_, labels) in chosen.items()
    }
    used = {
        "classes": found.classes,
        "n_classes": len(found.classes),
        "sentences": counts,
        "sentences_cut": {split: part.n_cut for split, (part, _) in chosen.items()},
        "digest": found.digest,
    }
    return sets, used


def _set(encoded: tk.Encoded, label_n: np.ndarray, keep_special: bool) -> TokenSet:
    tokens_nt = encoded.tokens_nt
    keep_nt = encoded.attend_nt & (keep_special | ~encoded.special_nt)
    label_nt = np.broadcast_to(label_n[:, None].astype(np.int16), tokens_nt.shape).copy()
    return TokenSet(
        tokens_nt, keep_nt, {"class": label_nt}, np.arange(len(tokens_nt), dtype=np.int32)
    )
