"""Single vectors in the files people keep them in: NumPy, PyTorch and safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossseed.atomic import writing
from crossseed.errors import UserError

SUFFIXES = (".npy", ".pt", ".safetensors")


def read(path: Path) -> np.ndarray:
    """The vector in a file, (d,), in its precision; 16-bit floats in float32.

    Raises:
        UserError: no such file or format, more than one vector, or values that are not finite.
    """
    path = Path(path)
    check_suffix(path)
    try:
        found = _tensor(path)
    except UserError:
        raise
    # Whatever these libraries raise is about the file.
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({error}); give a file with one vector") from error
    found = np.squeeze(found)
    if found.ndim != 1 or found.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: holds {found.dtype} of shape {found.shape}, expected one vector of numbers"
        )
    if not np.isfinite(found).all():
        raise UserError(f"{path}: holds NaN or infinite values; mend it")
    return found if found.dtype == np.float64 else found.astype(np.float32)


def _tensor(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        loaded: np.ndarray = np.load(path, allow_pickle=False)
        return loaded
    import torch

    if path.suffix == ".pt":
        found = torch.load(path, map_location="cpu", weights_only=True)
    else:
        from safetensors.torch import load_file

        tensors = load_file(path)
        if len(tensors) != 1:
            raise UserError(f"{path}: holds tensors {sorted(tensors)}, expected one vector")
        (found,) = tensors.values()
    if not isinstance(found, torch.Tensor):
        raise UserError(f"{path}: holds a {type(found).__name__}, expected one tensor")
    narrow = found.is_floating_point() and found.element_size() < 4
    return (found.float() if narrow else found).detach().numpy()


def write(path: Path, vector_d: np.ndarray) -> None:
    """A vector, (width,), in float32, in the format of the file's name.

    Raises:
        UserError: no such format.
    """
    path = Path(path)
    check_suffix(path)
    vector = np.ascontiguousarray(vector_d, dtype=np.float32)
    with writing(path) as temporary:
        if path.suffix == ".npy":
            with open(temporary, "wb") as handle:
                np.save(handle, vector)
        elif path.suffix == ".pt":
            import torch

            torch.save(torch.from_numpy(vector), temporary)
        else:
            from safetensors.numpy import save_file

            save_file({"vector": vector}, temporary)


def check_suffix(path: Path) -> None:
    """Raises `UserError` unless the name ends in one of `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: files of vectors end in {', '.join(SUFFIXES)}")
