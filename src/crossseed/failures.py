"""Failures that are about the machine: memory or disk ran out. One sentence each, with the setting to change."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# By verb: what decides how much memory it takes, in words of the configuration.
LOWER = {
    "train": "training.batch_rows, or set training.precision: bfloat16",
    "sae": "dictionaries.*.batch_tokens or dictionaries.*.expansions",
    "calibrate": "dictionaries.*.batch_tokens or dictionaries.*.expansions",
    "extract": "tokens.context, or set precision: bfloat16 or model.device_map: auto",
    "splice": "splice.sequences, or set model.device_map: auto",
    "port": "port.sequences, or set model.device_map: auto",
    "steer": "steering.trials, or set model.device_map: auto",
    "features": "features.sequences, or set model.device_map: auto",
    "attribute": "attribution.sequences, or set model.device_map: auto",
    "drift": "dictionaries.*.expansions, or set precision: bfloat16 or model.device_map: auto",
    "bars": "bars.batch_rows",
    "causes": "bars.rows",
    "interpret": "stability.interpret.context, or name a smaller model",
    "tokens": "tokens.fit, tokens.train and tokens.eval",
    "match": "dictionaries.*.expansions",
    "stability": "stability.seeds or dictionaries.*.expansions",
    "bridge": "stability.bridge.seeds or dictionaries.*.expansions",
    "null": "haar.draws",
    "joint_cache": "tokens.context, or set activation_dtype: float16",
    "joint_train": "joint.training.batch or joint.training.expansion, or set joint.training.precision: bf16-mixed",
    "joint_null": "joint.training.batch or joint.training.expansion, or set joint.training.precision: bf16-mixed",
    "joint_evaluate": "joint.training.expansion",
    "joint_counterfactuals": "joint.training.expansion",
}
SMALLER = "the sizes in the configuration"


def sentence(error: BaseException, verb: str) -> str | None:
    """What ran out and what to change; None if the error is of another kind."""
    lower = LOWER.get(verb, SMALLER)
    text = str(error).strip().split("\n")[0]
    if _gpu_memory(error, text):
        return (
            f"the GPU's memory ran out ({text[:300]}); lower {lower}; lower slots_per_gpu if other jobs share the GPU; "
            "or set device: cpu"
        )
    if isinstance(error, MemoryError):
        return f"main memory ran out ({text or 'no more is given'}); lower {lower}, or give the job more"
    if is_disk(error):
        return (
            f"the disk is full, or a limit on file sizes or a quota is reached ({_file(error) or text}); free space, and run "
            "again: nothing half written was left"
        )
    return None


def _gpu_memory(error: BaseException, text: str) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # Libraries below PyTorch have their own words for it.
    words = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in text for word in words)


def is_disk(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, is that nothing more can be written."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in FULL:
            return True
        # HDF5 and safetensors raise errors of their own, which name the number.
        if any(f"errno = {n}" in str(cause) or f"os error {n}" in str(cause) for n in FULL):
            return True
    return False


def _file(error: BaseException) -> str | None:
    """The file that was being written, as far as an error names it."""
    for cause in _chain(error):
        told = re.search(r"filename = '([^']+)'", str(cause))
        name = told[1] if told else getattr(cause, "filename", None)
        if name:
            folder, _, last = str(name).rpartition("/")
            half = re.fullmatch(r"\.(.+)\.[^.]*-\d+\.tmp", last)
            return str(name) if half is None else f"{folder}/{half[1]}" if folder else half[1]
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
