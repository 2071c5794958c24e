"""Say what two dictionaries of one width share, wherever they come from: by their directions alone, without data."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.errors import UserError
from crossseed.matching import criteria
from crossseed.sae import formats
from crossseed.stability.pairwise import standing_alone
from crossseed.store import write_table

COLUMNS = ("quantity", "part", "value", "null", "n")
PAIR_COLUMNS = ("first", "second", "decoder_cosine", "encoder_cosine", "encoder_partner")
SHOWN = (
    criteria.AGREE,
    criteria.DEC,
    criteria.DUAL,
    criteria.STRICT,
    "pw_mcc",
    "encoder_mcc",
    "mmcs",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for which in ("first", "second"):
        parser.add_argument(
            which,
            help="folder of SAELens, sparsify or dictionary_learning, or org/repository[@revision][:folder]",
        )
    parser.add_argument(
        "--threshold",
        type=float,
        default=criteria.THRESHOLD,
        help="cosine above which latents are shared (arXiv 2501.16615: 0.7)",
    )
    parser.add_argument(
        "--pairs", type=Path, help="CSV of each latent of the first with its partner in the second"
    )
    parser.add_argument("--out", type=Path, help="CSV of all that was measured")


def run(args: argparse.Namespace) -> None:
    if not -1 < args.threshold < 1:
        raise UserError(f"--threshold {args.threshold} is no cosine; give one between -1 and 1")
    found = []
    for name in (args.first, args.second):
        folder = Path(name) if Path(name).exists() else formats.fetch(name)
        found.append(formats.read(folder).arrays)
    shapes = [of["W_dec"].shape for of in found]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{args.first} has {shapes[0][0]} latents of width {shapes[0][1]}, {args.second} {shapes[1][0]} of width "
            f"{shapes[1][1]}; only dictionaries of one shape are matched one to one"
        )
    one, other = (criteria.directions(of["W_dec"], of["W_enc"]) for of in found)
    compared = criteria.compare(one, other)
    rows = standing_alone(compared, one.decoder.shape[1], args.threshold)
    for row in rows:
        if row["quantity"] in SHOWN and row["part"] == "all":
            print(f"{row['quantity']:12} {row['value']:.4f}   random directions {row['null']:.4f}")
    if args.out:
        write_table(args.out, COLUMNS, [{key: row[key] for key in COLUMNS} for row in rows])
    if args.pairs:
        columns = (
            range(len(one.decoder)),
            compared.decoder.partner,
            compared.decoder.cosine,
            compared.encoder.cosine,
            compared.encoder.partner,
        )
        write_table(
            args.pairs,
            PAIR_COLUMNS,
            [
                dict(zip(PAIR_COLUMNS, [int(i), int(j), float(d), float(e), int(p)], strict=True))
                for i, j, d, e, p in zip(*columns, strict=True)
            ],
        )
