"""The dictionaries of one cell: trained one init after another, measured on `eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crossseed.activations import (
    BatchStream,
    ShuffledSplit,
    Shuffling,
    SplitReader,
    open_split,
    shuffling,
)
from crossseed.errors import UserError
from crossseed.keys import SEEDED
from crossseed.metrics import (
    ErrorSums,
    Estimate,
    estimate,
    resample_weights,
    unit_blocks,
    unit_starts,
)
from crossseed.resume import Resume
from crossseed.sae.architectures import module_of
from crossseed.sae.dictionary import WEIGHTS, Dictionary, cfg_of, load, save
from crossseed.seeding import generator
from crossseed.store import write_table

BLOCK_ROWS = 8192
RESAMPLES = 200
DENSITY_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COLUMNS = (
    "cohort",
    "seed",
    "checkpoint",
    "site",
    "dictionary",
    "init",
    "metric",
    "value",
    "low",
    "high",
    "n_tokens",
)


def init_name(spec: dict[str, Any], init: str) -> tuple[object, ...]:
    """What names the initial weights: the dictionary alone when shared, and the member and
    site too when independent; for one of several seeds of one cell, the seed beside these."""
    if init == "shared":
        return (spec["dictionary"],)
    cell = (spec["dictionary"], spec["cohort"], spec["seed"], spec["checkpoint"], spec["site"])
    return cell if init == "independent" else (*cell, init)


def train_and_measure(
    spec: dict[str, Any], activations: Path, out: list[Path], metrics: Path, device: str, code: str
) -> None:
    """Trains and saves one dictionary per folder in `out` and writes their metrics. Inits named ``shuffled…`` are
    trained, and measured, on activations whose features are shuffled.

    Args:
        spec: the cell's spec.
        activations: its activation file.
        out: folders named ``{dictionary}-{init}``.
        metrics: CSV to write.
        device: ``cpu`` or ``cuda``.
        code: digest of the code, for resuming.
    """
    from crossseed.sae import training

    config = module_of(spec["variant"]["architecture"]).Config.model_validate(
        {
            **spec["variant"],
            "expansions": [spec["expansion"]],
            "inits": ["shared"],
            "members": "all",
        }
    )
    cell = f"{spec['cohort']} seed {spec['seed']} {spec['site']} {spec['dictionary']}"
    # The order of tokens is the same for every member and init, so that inits differ in
    # nothing but their initial weights.
    how = activations, spec["activations"], config.batch_tokens, spec["dictionary"]
    shuffled = [is_shuffled(folder.name.removeprefix(f"{spec['dictionary']}-")) for folder in out]
    by = shuffling(*how[:2]) if any(shuffled) else None
    streams = {of: BatchStream(*how, shuffling=by if of else None) for of in set(shuffled)}
    stream = streams[shuffled[0]]
    cfg = cfg_of(config, spec["expansion"], stream.width, spec["site"])
    inputs = {"activations": stream.digest}
    rows: list[dict[str, Any]] = []
    for folder, own_shuffled in zip(out, shuffled, strict=True):
        init = folder.name.removeprefix(f"{spec['dictionary']}-")
        own = {**{k: v for k, v in spec.items() if k != "inits"}, "init": init}
        start = init_name(spec, init)
        folder.mkdir(parents=True, exist_ok=True)
        resume = Resume(
            folder / WEIGHTS, {"spec": own, "code": code, "inputs": inputs, "device": device}
        )
        arrays = training.train(
            config,
            spec["expansion"],
            streams[own_shuffled],
            device,
            resume,
            start,
            f"{cell} {init}",
        )
        save(folder, arrays, cfg, own, inputs)
        resume.discard()
        initial = training.initial_arrays(
            stream.width, len(arrays["W_dec"]), config.tied_init, *start
        )
        dictionary = load(folder)
        with open_split(activations, "eval", spec["activations"]) as split:
            seen = split_of(split, by if own_shuffled else None)
            found = measure(dictionary, seen, init, *start)
            n_tokens = split.n_tokens
        drift = (dictionary.unit_decoder() * initial["W_dec"]).sum(axis=1)
        found["cosine_to_init"] = Estimate(float(drift.mean()))
        keys = {name: spec[name] for name in SEEDED}
        rows += [
            {**keys, "init": init, "metric": name, **value._asdict(), "n_tokens": n_tokens}
            for name, value in found.items()
        ]
    write_table(metrics, COLUMNS, rows)


def is_shuffled(init: str) -> bool:
    """Whether SAEs of an init are trained on shuffled features."""
    return init.startswith("shuffled")


def split_of(split: SplitReader, by: Shuffling | None) -> SplitReader:
    """What SAEs are measured on: the split, or the same with its features shuffled."""
    return split if by is None else ShuffledSplit(split, by, "eval")


def measure(dictionary: Dictionary, split: SplitReader, *name: object) -> dict[str, Estimate]:
    """Held-out metrics of one dictionary on its own member.

    Returns:
        ev and its aliases, l0, dead latents (no firing in `split`), and quantiles of the
        firing density (share of tokens on which a latent fires) over latents.

    Raises:
        UserError: all activations are zero.
    """
    starts = unit_starts(split.document_n)
    weights = resample_weights(generator("bootstrap", *name), len(starts), RESAMPLES)
    sums = ErrorSums(len(starts), split.width)
    fired = np.zeros(dictionary.W_enc.shape[1], dtype=np.int64)
    for units, rows, local in unit_blocks(starts, split.n_tokens, BLOCK_ROWS):
        x = split.rows(rows)
        h = dictionary.encode(x)
        fired += np.count_nonzero(h, axis=0)
        sums.add(units, local, x, dictionary.decode(h), np.count_nonzero(h, axis=1))
    if sums.xx.sum() == 0:
        raise UserError(f"{split.path}: all activations are zero; there is nothing to explain")
    density = fired / split.n_tokens
    found = {
        name: estimate(getattr(sums, name)(weights))
        for name in ("ev", "ev_published", "fvu", "ev_dictlearn", "mse", "l0")
    }
    found["dead_share"] = Estimate(float((fired == 0).mean()))
    for q in DENSITY_QUANTILES:
        found[f"density_q{round(100 * q):02d}"] = Estimate(float(np.quantile(density, q)))
    return found
