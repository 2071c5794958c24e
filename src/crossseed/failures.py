"""Failures that are about the machine: memory or disk ran out. One sentence each, with the setting to change."""

from __future__ import annotations

import errno
import sys

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
    if _disk(error):
        named = getattr(error, "filename", None)
        return (
            f"the disk is full, or a limit on file sizes or a quota is reached ({named or text}); free space, and run again: "
            "nothing half written was left"
        )
    return None


def _gpu_memory(error: BaseException, text: str) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # Libraries below PyTorch have their own words for it.
    words = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in text for word in words)


def _disk(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, is that nothing more can be written."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        # HDF5 and safetensors raise errors of their own, which name the number.
        if any(f"errno = {n}" in str(error) or f"os error {n}" in str(error) for n in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
