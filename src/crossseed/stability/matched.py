"""Two SAEs matched: by decoders, by encoders as they stand, and by encoders on data; and that in a file, for dictionaries
so large that each two of them are a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossseed.matching import assignment
from crossseed.matching import criteria as m
from crossseed.metrics import unit_rows
from crossseed.resume import Resume
from crossseed.seeding import generator
from crossseed.stability import RANDOM
from crossseed.store import check_cell, read_tensors, write_tensors

SCHEMA = "matched/1"


class Both(NamedTuple):
    """Directions of one SAE's latents.

    Attributes:
        standing: as they stand.
        on_data: with encoders times the square root of the activations' covariance, so that their cosines are
            correlations of what latents see on data; where activations do not vary an encoder is what it was before
            training. Decoders are the same.
    """

    standing: m.Directions
    on_data: m.Directions


class Pair(NamedTuple):
    """Two SAEs compared, with encoders as they stand and on data."""

    standing: m.Compared
    on_data: m.Compared


def both(decoder_fd: np.ndarray, encoder_df: np.ndarray, root_dd: np.ndarray) -> Both:
    """From the weights of a dictionary, decoder (latents, d) and encoder (d, latents), and the square root of the
    activations' covariance, (d, d)."""
    standing = m.directions(decoder_fd, encoder_df)
    seen = unit_rows((root_dd @ encoder_df).T.astype(np.float32))
    return Both(standing, standing._replace(encoder=seen))


def random(n: int, width: int, root_dd: np.ndarray) -> dict[str, Both]:
    """Dictionaries that share nothing, on the same data, whose covariance has the root (width, width), by names of
    `RANDOM`."""
    rng = generator("stability-random", n, width)
    found = {}
    for name in RANDOM:
        of = m.random_directions(rng, n, width)
        seen = unit_rows(of.encoder @ root_dd.astype(np.float32))
        found[name] = Both(of, of._replace(encoder=seen))
    return found


Arrays = dict[str, np.ndarray]


def _parts(of: Both) -> Arrays:
    """What is matched of two SAEs, one after another."""
    return {
        "decoder": of.standing.decoder,
        "encoder": of.standing.encoder,
        "encoder_on_data": of.on_data.encoder,
    }


def _part(a_nd: np.ndarray, b_nd: np.ndarray) -> Arrays:
    found = assignment.match(a_nd, b_nd)
    return {
        "partner": found.partner.astype(np.int32),
        "cosine": found.cosine,
        "proof": np.array([found.gap, found.rounds]),
        "highest": m.highest(a_nd, b_nd),
    }


def arrays(one: Both, other: Both, resume: Resume | None = None) -> dict[str, Arrays]:
    """All that is known of two SAEs, by part and name.

    Args:
        resume: where parts are kept between kills.
    """
    saved = resume.load() if resume else None
    done = _by_part(saved[0]) if saved else {}
    of_other = _parts(other)
    for step, (name, rows) in enumerate(_parts(one).items()):
        if name in done:
            continue
        done[name] = _part(rows, of_other[name])
        if resume:
            resume.save(_flat(done), {"step": step + 1})
    return done


def compare(one: Both, other: Both) -> Pair:
    """Both comparisons of two SAEs; decoders are matched once."""
    return _pair(arrays(one, other))


def _flat(parts: Mapping[str, Arrays]) -> Arrays:
    return {f"{part}/{name}": array for part, of in parts.items() for name, array in of.items()}


def _by_part(flat: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    found: dict[str, Arrays] = {}
    for key, array in flat.items():
        part, _, name = key.partition("/")
        found.setdefault(part, {})[name] = array
    return found


def _pair(parts: Mapping[str, Arrays]) -> Pair:
    matchings = {
        name: assignment.Matching(
            of["partner"], of["cosine"], float(of["proof"][0]), int(of["proof"][1])
        )
        for name, of in parts.items()
    }
    standing, on_data = (
        m.Compared(
            matchings["decoder"],
            matchings[encoder],
            parts["decoder"]["highest"],
            parts[encoder]["highest"],
        )
        for encoder in ("encoder", "encoder_on_data")
    )
    return Pair(standing, on_data)


def save(path: Path, found: Mapping[str, Arrays], spec: Mapping[str, Any]) -> None:
    """Writes what `arrays` gave."""
    write_tensors(path, _flat(found), SCHEMA, spec, {})


def load(path: Path, cell: Mapping[str, Any]) -> tuple[tuple[str, str], Pair]:
    """The names of two SAEs, and how they are matched.

    Args:
        cell: what the file must be of.

    Raises:
        UserError: the file is damaged, or of another cell.
    """
    tensors, header = read_tensors(path, SCHEMA)
    check_cell(path, header.spec, cell)
    return (header.spec["first"], header.spec["second"]), _pair(_by_part(tensors))
