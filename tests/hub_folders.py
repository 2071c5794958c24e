"""Tiny random language models in folders, one of each family, that stand in for published ones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from crossseed.cohorts.hub import loading, members
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.source import Source

D, LAYERS, HEADS, KV_HEADS, VOCABULARY, POSITIONS = 32, 3, 4, 2, 61, 24
TOKENS_NT = np.random.default_rng(0).integers(0, VOCABULARY, (3, 11)).astype(np.uint16)
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": D,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
}
# Dropout that would show if the models were not in eval mode.
NEOX = COMMON | {"intermediate_size": 96, "hidden_dropout": 0.3, "rotary_pct": 0.5}
LLAMA = COMMON | {"intermediate_size": 80, "num_key_value_heads": KV_HEADS}


def _configurations():
    import transformers as t

    return {
        "neox": t.GPTNeoXConfig(**NEOX, use_parallel_residual=True),
        "neox-sequential": t.GPTNeoXConfig(**NEOX, use_parallel_residual=False),
        "gpt2": t.GPT2Config(
            vocab_size=VOCABULARY, n_embd=D, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS
        ),
        "llama": t.LlamaConfig(**LLAMA),
        "mistral": t.MistralConfig(**LLAMA, sliding_window=4),
        "qwen2": t.Qwen2Config(
            **LLAMA, use_sliding_window=True, sliding_window=4, max_window_layers=1
        ),
        "qwen3": t.Qwen3Config(**LLAMA, head_dim=16),
        "bert": t.BertConfig(**COMMON, intermediate_size=80, chunk_size_feed_forward=4),
    }


MODELS = ("neox", "neox-sequential", "gpt2", "llama", "mistral", "qwen2", "qwen3", "bert")


def _save_tokenizer(path, tokens=VOCABULARY, lowercase=False, first="w0"):
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {first: 0} | {f"w{i}": i for i in range(1, tokens - 1)} | {"<end>": tokens - 1}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if lowercase:
        tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One model of each architecture with its head, as `lab/{name}`, weights drawn anew."""
    import transformers

    root = tmp_path_factory.mktemp("models")
    for number, (name, config) in enumerate(_configurations().items()):
        auto = "AutoModelForPreTraining" if name == "bert" else "AutoModelForCausalLM"
        model = getattr(transformers, auto).from_config(config)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for key, value in model.named_parameters():
                value.normal_(0, 0.2, generator=generator)
                if "norm" in key.lower() or ".ln_" in key:
                    value.add_(1.0)
        model.save_pretrained(root / "lab" / name)
        _save_tokenizer(root / "lab" / name)
    return root


def source(folder, name):
    return Source(f"lab/{name}", str(folder))


def all_sites(folder, name):
    shape = loading.shape_of(loading.load_config(source(folder, name)))
    found = [names.name(layer, hook) for layer in range(LAYERS) for hook in names.HOOKS]
    return [s for s in found if names.why_not(s, shape.family, LAYERS, shape.parallel) is None]


def load(folder, name, sites=None, dtype="float32"):
    return members.load_source(source(folder, name), sites or all_sites(folder, name), dtype, "cpu")


def low(path, name="neox", **options):
    """Loads the model in `{path}/lab/{name}`."""
    return members.load_source(
        Source(f"lab/{name}", str(path)), ["blocks.1.hook_resid_post"], "float32", "cpu", **options
    )


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of one model, to be spoilt."""

    def make(name="neox"):
        shutil.copytree(folder / "lab" / name, tmp_path / "lab" / name)
        return tmp_path, tmp_path / "lab" / name

    return make
