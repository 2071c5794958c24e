"""Measure a pair by the rotation study's own protocol, for the claims table alone."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from crossseed import pairs
from crossseed.activations import SplitReader
from crossseed.published import COLUMNS, iid_ks, spectrum, transfer
from crossseed.sae.dictionary import load
from crossseed.seeding import generator
from crossseed.store import check_cell, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_pair(parser)
    parser.add_argument(
        "--dictionaries", type=Path, nargs="+", required=True, help="the source's SAE folders"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def whole(reader: SplitReader) -> np.ndarray:
    """All rows at once, as the study has them."""
    return reader.rows(slice(0, reader.n_tokens))


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "activations", *pairs.CELL)
    made_from = spec["activations"]
    dictionaries = options.dictionaries_of(args.dictionaries, load)
    for path, dictionary in zip(args.dictionaries, dictionaries.values(), strict=True):
        check_cell(path, options.provenance(dictionary), {"activations": made_from["source"]})
    with pairs.open_readers("eval", *options.pair_files(args), made_from) as readers:
        a, b = whole(readers.source), whole(readers.target)
    cell = {name: spec[name] for name in pairs.CELL}
    rotation = transfer.rotation(a, b)
    statistic, p = iid_ks.test(iid_ks.angles_of(rotation), iid_ks.reference(len(rotation)))
    of_map = {
        "mean_cosine": spectrum.mean_cosine(rotation),
        "permutation_distance": spectrum.permutation_distance(rotation),
        "ks": statistic,
        "ks_p": p,
    }
    rows = [{"dictionary": "", "init": "", "quantity": k, "value": v} for k, v in of_map.items()]
    for (name, init), dictionary in dictionaries.items():
        rng = generator("published-gaussian", *pairs.cell_of(spec), name, init)
        for quantity, value in transfer.measure(dictionary, a, b, rng).items():
            row = {"dictionary": name, "init": init, "quantity": quantity, "value": value}
            rows.append(row)
    write_table(args.out, COLUMNS, [{**cell, **row} for row in rows])
