"""Is a token whose activation is long in one model long in its sibling too?

A rotation changes no length. So where siblings are rotations of each other, lengths correlate over tokens as well as
activations do; a null that pairs tokens of the same position tells how much of that position alone gives.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from crossseed.activations import check_paired, open_split
from crossseed.alignment.maps import shuffle_within_position
from crossseed.seeding import generator
from crossseed.store import write_table

CELL = ("cohort", "source_seed", "target_seed", "checkpoint", "site")
COLUMNS = (*CELL, "arm", "length_r", "n_tokens")


def length_r(source_nd: np.ndarray, target_nd: np.ndarray) -> float:
    """Pearson r, over tokens, of the lengths of two models' activations, each (tokens, width)."""
    lengths = (np.linalg.norm(rows - rows.mean(axis=0), axis=1) for rows in (source_nd, target_nd))
    return float(np.corrcoef(*lengths)[0, 1])


def rows(
    source_nd: np.ndarray, target_nd: np.ndarray, position_n: np.ndarray, rng: np.random.Generator
) -> list[dict]:
    """The measurement, and its null: the target's tokens exchanged within their position."""
    shuffled = target_nd[shuffle_within_position(rng, position_n)]
    arms = {"paired": target_nd, "shuffled": shuffled}
    return [
        {"arm": arm, "length_r": length_r(source_nd, found), "n_tokens": len(found)}
        for arm, found in arms.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads)
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--target", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    cell = {name: args.spec[name] for name in CELL}
    made_from = args.spec["activations"]
    with (
        open_split(args.source, "eval", made_from["source"]) as a,
        open_split(args.target, "eval", made_from["target"]) as b,
    ):
        check_paired(a, b)
        found = rows(
            a.rows(slice(None)),
            b.rows(slice(None)),
            a.position_n,
            generator("norms", *cell.values()),
        )
    write_table(args.out, COLUMNS, [{**cell, **row} for row in found])


if __name__ == "__main__":
    main()
