"""Explain latents of the first SAE of a cell, and score how well, by in how many SAEs they are found."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path

from crossseed.activations import open_split
from crossseed.cohorts.base import module_of
from crossseed.errors import UserError
from crossseed.interpret import (
    COLUMNS,
    STEP_COLUMNS,
    chat,
    delphi,
    embeddings,
    study,
)
from crossseed.interpret.latents import Latent, Settings
from crossseed.interpret.scores import NOT_REACHED
from crossseed.interpret.similarity import Embed
from crossseed.sae.dictionary import load
from crossseed.stability import CELL, LATENT_COLUMNS
from crossseed.store import check_cell, read_table, write_table, write_text
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    parser.add_argument(
        "--dictionaries", type=Path, nargs="+", required=True, help="folders of the first two SAEs"
    )
    parser.add_argument(
        "--latents", type=Path, required=True, help="CSV of single latents of the stability study"
    )
    parser.add_argument(
        "--activations", type=Path, required=True, help="activation file of the member and site"
    )
    parser.add_argument(
        "--tokenizer", type=Path, nargs="*", default=[], help="files of the cohort's tokenizer"
    )
    parser.add_argument(
        "--explanations", type=Path, required=True, help="explanations to write, a JSON a line"
    )
    parser.add_argument(
        "--delphi", type=Path, required=True, help="folder to write in the layout of delphi"
    )
    parser.add_argument("--steps", type=Path, required=True, help="CSV over latents to write")
    parser.add_argument("--out", type=Path, required=True, help="CSV of single latents to write")


def run(args: argparse.Namespace) -> None:
    keys = (*Settings._fields, "scorer", "model", "embeddings")
    spec = options.spec_of(args, *keys, "seeds", "activations", "kind", "text", *CELL)
    cell = {name: spec[name] for name in CELL}
    dictionaries = [load(options.folder_of(path)) for path in args.dictionaries]
    for path, dictionary, init in zip(args.dictionaries, dictionaries, spec["seeds"], strict=False):
        wanted = {**cell, "activations": spec["activations"], "init": init}
        check_cell(path, options.provenance(dictionary), wanted)
    if len(dictionaries) != 2:
        raise UserError(
            f"--dictionaries names {len(dictionaries)} SAEs; give the folders of {spec['seeds'][0]} and "
            f"{spec['seeds'][1]}"
        )
    latents = _latents(args.latents, spec["seeds"], cell)
    words = module_of(spec["kind"], "words").make(spec["text"], args.tokenizer)
    settings = Settings(*(spec[name] for name in Settings._fields))
    scorer = _scorer(spec, args.device, args.out)
    with ExitStack() as stack:
        train, test = (
            stack.enter_context(open_split(args.activations, split, spec["activations"]))
            for split in ("train", "eval")
        )
        found = study.study(
            settings, dictionaries, latents, (train, test), words,
            scorer, _embed(spec, args.device), *cell.values(),
        )  # fmt: skip
    named = {**cell, "init": spec["seeds"][0]}
    told = {row["latent"]: row["explanation"] for row in found.explanations if row["explanation"]}
    delphi.write(
        args.delphi,
        spec["site"],
        found.latents,
        dictionaries[0].W_dec.shape[0],
        [
            (windows.tokens_wt, fires)
            for windows, fires in zip(found.windows, found.read, strict=True)
        ],
        told,
        {
            "model_name": spec["text"].get("tokenizer", ""),
            "dataset_repo": spec["cohort"],
            "dataset_split": "train, eval",
        },
    )
    lines = [json.dumps({**named, **row}, ensure_ascii=False) for row in found.explanations]
    write_text(args.explanations, "".join(f"{line}\n" for line in lines))
    write_table(args.steps, STEP_COLUMNS, [{**named, **row} for row in found.steps])
    write_table(args.out, COLUMNS, [{**named, **row} for row in found.rows])
    # Where the scorer was lost, its answers so far serve the next try.
    if scorer is not None and not any(NOT_REACHED in row["note"] for row in found.steps):
        scorer[1].forget()


def _latents(path: Path, seeds: list[str], cell: dict[str, object]) -> list[Latent]:
    """Latents of the first SAE that fire."""
    rows = [row for row in read_table(path, LATENT_COLUMNS) if row["init"] == seeds[0]]
    for row in rows[:1]:
        check_cell(path, {name: row[name] for name in CELL}, {k: str(v) for k, v in cell.items()})
    return [
        Latent(
            int(row["latent"]),
            1 + round(float(row["reappears"]) * (len(seeds) - 1)),
            float(row["density"]),
            int(row["partner"]),
            row["shared"] == "1",
        )
        for row in rows
        if float(row["density"]) > 0
    ]


def _scorer(spec: dict[str, object], device: str, out: Path) -> tuple[str, chat.Remembered] | None:
    """The language model that is asked, and its name in the tables."""
    model = str(spec["model"])
    found: chat.Scorer
    if spec["scorer"] == "openai":
        name, found = f"openai {model}", chat.endpoint(model)
    elif spec["scorer"] == "local":
        name, found = f"local {Path(model).name}", chat.Local(model, _usable(device))
    else:
        return None
    out.parent.mkdir(parents=True, exist_ok=True)
    return name, chat.Remembered(found, out.with_name(f".{out.name}.resume"), model)


def _embed(spec: dict[str, object], device: str) -> Embed | None:
    if spec["embeddings"] is None:
        return None
    folder, usable = str(spec["embeddings"]), _usable(device)
    return lambda texts: embeddings.embed(folder, texts, usable)


def _usable(device: str) -> str:
    # Imported here: PyTorch, which the embedded scorer does without.
    from crossseed.devices import usable

    return usable(device)
