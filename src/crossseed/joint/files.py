"""Maps and SAEs of a pair on disk.

joint-maps/1   HDF5, a group a map: ``matrix_dd``, ``shift_in_d``, ``shift_out_d``, float64
joint-sae/1    safetensors: weights by name and number of the coder, ``threshold/…``, and W under ``map/…``
               (`crossseed.joint.model.JointSAE.arrays`); the spec has the settings and which models it is of
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossseed.alignment.maps import AffineMap, identity
from crossseed.errors import UserError
from crossseed.joint import MAPS_SCHEMA, SAE_SCHEMA
from crossseed.joint.config import JointTraining
from crossseed.joint.model import JointSAE, of_arrays
from crossseed.joint.tables import CELL
from crossseed.store import (
    add_dataset,
    check_cell,
    create_h5,
    header,
    open_h5,
    read_tensors,
    write_tensors,
)

IDENTITY = "identity"
# What an SAE and its readers must agree on.
SAME = (*CELL, "caches")


def write_maps(
    path: Path,
    found: Mapping[str, AffineMap],
    spec: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Maps by name."""
    with create_h5(path, MAPS_SCHEMA, spec, inputs) as file:
        for name, carried in found.items():
            group = file.create_group(name)
            for key, array in carried._asdict().items():
                add_dataset(group, key, data=np.asarray(array, dtype=np.float64))


def read_map(path: Path | None, name: str, width: int, spec: Mapping[str, Any]) -> AffineMap:
    """A map of a pair.

    Args:
        path: the file; may be None for the identity.
        name: of the file's maps, or ``identity``.
        width: of activations.
        spec: of the job: the pair and its caches.

    Raises:
        UserError: damaged, foreign, of another pair, or without that map.
    """
    if name == IDENTITY:
        return identity(width)
    if path is None:
        raise UserError(f"the map {name!r} is needed; give --maps")
    with open_h5(path, MAPS_SCHEMA) as file:
        check_cell(path, header(file).spec, {key: spec[key] for key in SAME})
        if name not in file:
            raise UserError(f"{path}: has no map {name!r}, only {', '.join(file)}; make it again")
        return AffineMap(*(file[name][key][:] for key in AffineMap._fields))


class Saved(NamedTuple):
    """An SAE as it was written: the SAE, and its spec."""

    sae: JointSAE
    spec: dict[str, Any]


def write_sae(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    spec: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """The arrays of an SAE."""
    write_tensors(path, arrays, SAE_SCHEMA, spec, inputs)


def read_sae(path: Path, spec: Mapping[str, Any], training: str, device: str = "cpu") -> Saved:
    """An SAE of a pair.

    Args:
        path: the file. spec: of the job: the pair and its caches. training: its name. device: where it goes.

    Raises:
        UserError: damaged, foreign, of another pair, or another training.
    """
    arrays, found = read_tensors(path, SAE_SCHEMA)
    wanted = {**{key: spec[key] for key in SAME}, "training": training}
    check_cell(path, found.spec, wanted)
    settings = JointTraining.model_validate(found.spec["settings"])
    models = tuple(found.spec["models"])
    return Saved(of_arrays(settings, arrays, models, device), found.spec)
