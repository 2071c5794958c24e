"""What is refused of language models on disk, in a sentence each."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from hub_folders import D, copy, folder, load, low, source
from safetensors.torch import load_file, save_file

from crossseed.cohorts.hub import loading
from crossseed.cohorts.hub.source import Source, resolve
from crossseed.errors import UserError

__all__ = ["copy", "folder"]


# --- loading: what is refused -----------------------------------------------------------


def refuses(call, *parts):
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    for part in parts:
        assert part in said, said
    return caught.value


def test_model_ids_and_folders(folder, tmp_path, monkeypatch):
    assert resolve(Source("lab/m-1.b@step1000")) == ("lab/m-1.b", "step1000")
    assert resolve(Source("lab/m")) == ("lab/m", None)
    assert resolve(source(folder, "neox")) == (str(folder / "lab/neox"), None)
    for bad in ("m", "lab/m@", "../m", "lab/m/x", "lab/m@r@s", ""):
        refuses(lambda bad=bad: resolve(Source(bad)), "no model id; expected org/name")
    refuses(
        lambda: resolve(source(folder, "neoxx@step3")),
        f"expected the folder {folder}/lab/neoxx@step3 with a config.json",
        f"{folder} holds lab/neox, ",
        "4 more",
        f"`hf download lab/neoxx --revision step3 --local-dir {folder}/lab/neoxx@step3`",
    )
    refuses(lambda: low(tmp_path), f"{tmp_path} holds no model")
    refuses(lambda: low(tmp_path / "none"), "does not exist; correct the path")
    with_revision = tmp_path / "lab" / "neox@step3"
    shutil.copytree(folder / "lab" / "neox", with_revision)
    assert low(tmp_path, "neox@step3").digest == low(folder).digest
    # A folder that happens to lie in the working directory is not the hub's model.
    monkeypatch.chdir(folder)
    refuses(lambda: resolve(Source("lab/neox")), "also exists in the working directory")


def test_architectures_settings_and_sites_that_are_not_supported(folder, copy):
    root, path = copy()
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"model_type": "rwkv"}))
    refuses(lambda: low(root), "model_type is 'rwkv'", "gpt_neox, gpt2, llama, mistral")
    (path / "config.json").write_text("{" + json.dumps(config))
    refuses(lambda: low(root), "no valid JSON", "hf download lab/neox --force-download --local-dir")
    (path / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))
    refuses(lambda: low(root), "model 'lab/neox': cannot be read")
    refuses(lambda: load(folder, "gpt2", dtype="float8"), "dtype = 'float8'", "float32, bfloat16")
    refuses(
        lambda: load(folder, "neox", ["blocks.0.hook_resid_mid"]),
        "model 'lab/neox': site 'blocks.0.hook_resid_mid' does not exist",
    )


def test_a_device_map_needs_accelerate(folder, monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _: None)
    refuses(lambda: low(folder, device_map="auto"), "pip install accelerate")


def test_damaged_and_missing_weights(copy):
    root, path = copy()
    weights = path / "model.safetensors"
    stored = weights.read_bytes()
    weights.write_bytes(stored[: len(stored) // 2])
    refuses(lambda: low(root), "its weights are damaged (SafetensorError", "--force-download")
    weights.write_bytes(b"")
    refuses(lambda: low(root), "its weights are damaged (SafetensorError")
    weights.unlink()
    refuses(lambda: low(root), f"{path} lacks its weights (one of model.safetensors")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "model-1-of-2.safetensors").write_bytes(stored)
    refuses(lambda: low(root), f"{path} lacks model-2-of-2.safetensors of its weights")
    (path / "model.safetensors.index.json").write_text("{}")
    refuses(lambda: low(root), "model.safetensors.index.json is damaged")


def test_weights_that_are_not_the_models_never_pass(copy):
    """transformers starts missing weights at random, and only logs that it did."""
    root, path = copy()
    weights = path / "model.safetensors"
    stored = load_file(weights)
    key = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"

    def spoilt(**changes):
        changed = {k: v for k, v in (stored | changes).items() if v is not None}
        save_file(changed, weights, metadata={"format": "pt"})

    spoilt(**{key: None})
    refuses(lambda: low(root), "its weights lack layers.1.mlp.dense_h_to_4h.weight; fetch it again")
    spoilt(**{key: torch.zeros(95, D)})
    refuses(lambda: low(root), "wrong shape: layers.1.mlp.dense_h_to_4h.weight (95, 32) instead of")
    spoilt(**{"gpt_neox.layers.1.adapter.weight": torch.zeros(2)})
    refuses(
        lambda: low(root),
        "weights hold unknown gpt_neox.layers.1.adapter",
    )
    spoilt(**{"gpt_neox.layers.3.mlp.dense_4h_to_h.bias": torch.zeros(D)})
    refuses(lambda: low(root), "weights hold unknown gpt_neox.layers.3.mlp.dense_4h_to_h.bias")
    # Of layers that are not loaded, and of the head, nothing is asked.
    spoilt(**{"gpt_neox.layers.2.adapter.weight": torch.zeros(2), "embed_out.weight": None})
    low(root)


def test_weights_of_the_older_kind_run_no_code(copy):
    root, path = copy("gpt2")
    expected = low(root, "gpt2").digest
    stored = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    stored["transformer.h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
    stored["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(stored, path / "pytorch_model.bin")
    assert low(root, "gpt2").digest == expected

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(root / "code-was-run"),)

    torch.save({"x": Code()}, path / "pytorch_model.bin")
    refuses(lambda: low(root, "gpt2"), "its weights are damaged (UnpicklingError")
    assert not (root / "code-was-run").exists()
    (path / "pytorch_model.bin").write_bytes(b"")
    refuses(lambda: low(root, "gpt2"), "its weights are damaged (EOFError")


def test_too_little_memory_is_said(folder, monkeypatch):
    import transformers

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", fail)
    refuses(lambda: low(folder), "does not fit into memory", "device_map: auto")


def test_loading_leaves_the_process_as_it_was(folder, monkeypatch):
    from transformers.utils import logging

    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    before = logging.get_verbosity()
    low(folder)
    assert logging.get_verbosity() == before
    assert "DISABLE_SAFETENSORS_CONVERSION" not in os.environ


def test_digests_follow_the_weights(copy):
    root, path = copy()
    before = low(root).digest
    weights = path / "model.safetensors"
    stored = load_file(weights)
    stored["gpt_neox.layers.2.mlp.dense_4h_to_h.bias"] += 1  # not loaded
    save_file(stored, weights, metadata={"format": "pt"})
    assert low(root).digest == before
    stored["gpt_neox.layers.1.mlp.dense_4h_to_h.bias"][0] += 1e-3
    save_file(stored, weights, metadata={"format": "pt"})
    assert low(root).digest != before
