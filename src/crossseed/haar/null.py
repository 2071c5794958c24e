"""What every statistic does under Haar measure: draws, kept per size d and number of draws B.

Disk layout (schema ``haar-null/1``), shared by all cohorts and runs:

    spectral/plus, spectral/minus   (B, statistics)  both determinants, order of `SPECTRAL`
    entries                         (B, statistics)  order of `ENTRIES`, but the last
    participation/plus, …/minus     (B,)             the last of `ENTRIES`
    law/plus, law/minus             (B, points)      F_n(θ) − F(θ) on `law_grid`, float16

Spectral draws come from the tridiagonal model, entry draws from whole matrices
(`crossseed.alignment.maps.haar_orthogonal`). The eigenvectors of a Haar matrix are a Haar frame
independent of its angles, so their participation is drawn from the columns of the same matrix,
without a decomposition.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossseed.alignment.maps import haar_orthogonal
from crossseed.haar.eigenangles import draws, mean_cdf, n_pairs
from crossseed.haar.sizes import SMALLEST
from crossseed.haar.statistics import ENTRIES, SPECTRAL, entries, planes_participation, spectral
from crossseed.progress import Progress
from crossseed.seeding import generator
from crossseed.store import add_dataset, create_h5, header, open_h5

SCHEMA = "haar-null/1"
LAW_POINTS = 257
SIGNS = {1: "plus", -1: "minus"}


class Null(NamedTuple):
    """Draws under Haar measure.

    Attributes:
        d: size of the matrices.
        statistics: by determinant and name, (B,); the statistics of entries alone are the same
            for both.
        law: by determinant, empirical less mean law of the angles of each draw at `law_grid`,
            (B, points): what a pool of several matrices is compared with.
    """

    d: int
    statistics: dict[int, dict[str, np.ndarray]]
    law: dict[int, np.ndarray]


def law_grid() -> np.ndarray:
    """Angles in radians, 0 to π, at which the empirical law is kept, (points,)."""
    return np.linspace(0, np.pi, LAW_POINTS)


def empirical_less_mean(angles_rn: np.ndarray, d: int, det: int) -> np.ndarray:
    """Empirical less mean law of draws of half-angles at `law_grid`, (draws, points)."""
    grid = law_grid()
    counts = [np.searchsorted(angles, grid, side="right") for angles in angles_rn]
    difference: np.ndarray = np.array(counts) / angles_rn.shape[1] - mean_cdf(grid, d, det)
    return difference


def draw(d: int, size: int) -> Null:
    """`size` draws of every statistic for matrices of size d; a function of (d, size) alone.

    Raises:
        ValueError: d is below `SMALLEST`.
    """
    if d < SMALLEST:
        raise ValueError(f"the tests need at least {SMALLEST} dimensions, got {d}")
    progress = Progress("null draws", 3 * size)
    done = 0
    statistics: dict[int, dict[str, np.ndarray]] = {}
    law = {}
    for det, sign in SIGNS.items():
        found, laws = [], []
        for block in draws(generator("haar-eigenangles", d, sign), d, det, size):
            found.append(spectral(block, d, det))
            laws.append(empirical_less_mean(block, d, det).astype(np.float16))
            done += len(block)
            progress.update(done, "draws")
        statistics[det] = dict(zip(SPECTRAL, np.concatenate(found).T, strict=True))
        law[det] = np.concatenate(laws)
    rng = generator("haar-entries", d)
    of_entries = np.empty((size, len(ENTRIES) - 1))
    of_planes = {det: np.empty(size) for det in SIGNS}
    for i in range(size):
        matrix = haar_orthogonal(rng, d)
        of_entries[i] = entries(matrix)
        for det in SIGNS:
            of_planes[det][i] = planes_participation(matrix[:, : 2 * n_pairs(d, det)])
        done += 1
        progress.update(done, "draws")
    progress.close()
    for det in SIGNS:
        statistics[det] |= _named(of_entries, of_planes[det])
    return Null(d, statistics, law)


def _named(of_entries: np.ndarray, of_planes: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(ENTRIES, (*of_entries.T, of_planes), strict=True))


def write(path: Path, null: Null, spec: Mapping[str, Any]) -> None:
    """Draws as HDF5; `spec` holds ``d``."""
    with create_h5(path, SCHEMA, spec, {}) as file:
        for det, sign in SIGNS.items():
            found = null.statistics[det]
            columns = np.stack([found[name] for name in SPECTRAL], axis=1)
            add_dataset(file, f"spectral/{sign}", data=columns)
            add_dataset(file, f"participation/{sign}", data=found[ENTRIES[-1]])
            add_dataset(file, f"law/{sign}", data=null.law[det])
        columns = np.stack([null.statistics[1][name] for name in ENTRIES[:-1]], axis=1)
        add_dataset(file, "entries", data=columns)


def read(path: Path) -> Null:
    """Draws written by `write`; a damaged or foreign file is refused."""
    with open_h5(path, SCHEMA) as file:
        statistics = {
            det: {
                **dict(zip(SPECTRAL, file[f"spectral/{sign}"][:].T, strict=True)),
                **_named(file["entries"][:], file[f"participation/{sign}"][:]),
            }
            for det, sign in SIGNS.items()
        }
        law = {det: file[f"law/{sign}"][:] for det, sign in SIGNS.items()}
        return Null(int(header(file).spec["d"]), statistics, law)
