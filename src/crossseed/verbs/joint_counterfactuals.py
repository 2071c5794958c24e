"""Edit sentences in the least way that changes their class, and see what latents of both models do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossseed import counterfactuals
from crossseed.cohorts.classifier import grammar as grammars
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.devices import usable
from crossseed.errors import UserError
from crossseed.joint import effects
from crossseed.joint.conditions import Condition
from crossseed.joint.config import JointEvaluation
from crossseed.joint.sides import joint_sides
from crossseed.joint.tables import CELL, CONTEXT_COLUMNS, COUNTERFACTUAL_COLUMNS, ITEM_COLUMNS
from crossseed.joint.upper import Cache, CutModel
from crossseed.store import write_table
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser, models=True)
    parser.add_argument(
        "--saes", type=Path, nargs="+", required=True, help="SAE whose latents are tried"
    )
    parser.add_argument(
        "--edits", type=Path, required=True, help="file of resources/counterfactuals/"
    )
    parser.add_argument("--grammar", type=Path, required=True, help="the grammar it names")
    parser.add_argument(
        "--tokenizer", type=Path, nargs="*", default=[], help="files of the cohort's tokenizer"
    )
    parser.add_argument("--items", type=Path, required=True, help="CSV of single items to write")
    parser.add_argument("--contexts", type=Path, required=True, help="CSV of contexts to write")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    needed = ("kind", "members", "caches", "trainings", "condition", "evaluation", "lambda_cross")
    more = ("classes", "text", "context", "latents", "contexts")
    spec = options.spec_of(args, *needed, *more, *CELL)
    device, config = usable(args.device), JointEvaluation.model_validate(spec["evaluation"])
    condition = Condition(**spec["condition"])
    edits = counterfactuals.read(args.edits, grammars.read(args.grammar))
    for item in edits.items:
        if item.before not in spec["classes"]:
            raise UserError(
                f"{args.edits}: {item.edit} starts from class {item.before!r}, which is none of the cohort's "
                f"{', '.join(spec['classes'])}; choose another file in joint.counterfactuals.files"
            )
    uppers = joints.uppers_of(args, spec, device)
    (sae,) = joints.saes_of(args.saes, spec, spec["trainings"], device)
    sides = joint_sides(sae)
    found = joints.read(args, spec, ["fit", "eval"])
    latents = effects.chosen(
        sides, found["fit"], found["eval"], spec["classes"], spec["latents"], config
    )
    tokenizer = tk.load(args.tokenizer, spec["text"])
    told = [getattr(item, kind) for kind in effects.KINDS for item in edits.items]
    texts = list(dict.fromkeys(told))
    encoded = tk.encode(tokenizer, texts, spec["context"])
    if encoded.n_cut:
        raise UserError(
            f"{args.edits}: {encoded.n_cut} sentences have more than tokens.context = {spec['context']} tokens and would be "
            "cut; raise it"
        )
    peaks = effects.peaks(sides, _passed(uppers, encoded))
    row_of = {text: number for number, text in enumerate(texts)}
    items = []
    for item in edits.items:
        rows = {kind: row_of[getattr(item, kind)] for kind in effects.KINDS}
        items.append(
            effects.Edited(item, {k: (peaks[0][row], peaks[1][row]) for k, row in rows.items()})
        )
    tried = list(effects.tried(latents, items))
    about = {
        **joints.cell_of(spec),
        "condition": condition.condition,
        "init": condition.init,
        "lambda_cross": spec["lambda_cross"],
    }
    summaries = effects.summaries(latents, tried)
    shown = effects.contexts(latents, sides, found["eval"], spec["contexts"])
    write_table(args.items, ITEM_COLUMNS, ({**about, **row} for row in tried))
    write_table(
        args.contexts,
        CONTEXT_COLUMNS,
        ({**about, **_in_words(row, found["eval"], spec["classes"], tokenizer)} for row in shown),
    )
    write_table(args.out, COUNTERFACTUAL_COLUMNS, ({**about, **row} for row in summaries))


def _passed(uppers: Sequence[CutModel], encoded: tk.Encoded) -> Cache:
    """Both models' activations of new sentences; their classes are not asked for."""
    clean = [upper.clean(encoded.tokens_nt) for upper in uppers]
    h, following, logits = ([one[i].float().cpu().numpy() for one in clean] for i in range(3))
    n = len(encoded.tokens_nt)
    return Cache(
        h=(h[0], h[1]),
        next=(following[0], following[1]),
        logits=(logits[0], logits[1]),
        mask=encoded.attend_nt,
        special=encoded.attend_nt & encoded.special_nt,
        labels=np.zeros(n, np.int64),
        tokens=encoded.tokens_nt,
        document=np.arange(n),
    )


def _in_words(
    row: dict[str, Any], cache: Cache, classes: Sequence[str], tokenizer: Any
) -> dict[str, Any]:
    example, position = row.pop("example"), row.pop("position")
    ids = cache.tokens[example][cache.mask[example]]
    return {
        **row,
        "label": classes[int(cache.labels[example])],
        "token": tokenizer.convert_ids_to_tokens(int(cache.tokens[example][position])),
        "context": tokenizer.decode(ids, skip_special_tokens=True),
    }
