"""Language models: sites, loading, reading; tiny random models stand in for published ones."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from crossseed.cohorts.hub import check as checking
from crossseed.cohorts.hub import loading, members
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.check import compare
from crossseed.cohorts.hub.reading import Reader
from crossseed.cohorts.hub.sentences import HubUnreachable
from crossseed.cohorts.hub.source import Source, resolve
from crossseed.errors import UserError
from crossseed.store import write_table

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


# --- sites ------------------------------------------------------------------------------


def test_sites_are_parsed_and_refused_with_the_name_to_use():
    assert names.parse("blocks.12.hook_resid_mid") == (12, "hook_resid_mid")
    for bad in ("blocks.01.hook_resid_pre", "blocks.1.hook_q", "blocks.-1.hook_mlp_out", "embed"):
        with pytest.raises(ValueError, match=r"no site of a language model; expected blocks.LAYER"):
            names.parse(bad)
        assert "expected blocks.LAYER.HOOK" in names.why_not(bad, "gpt2", 12, False)
    assert names.why_not("blocks.0.hook_resid_pre", "gpt2", 12, False) is None
    assert names.why_not("blocks.11.hook_resid_mid", "llama", 12, False) is None
    assert "layers 0 to 11" in names.why_not("blocks.12.hook_resid_post", "gpt2", 12, False)
    said = names.why_not("blocks.2.hook_resid_mid", "gpt_neox", 6, True)
    assert "in parallel" in said
    assert "'blocks.2.hook_resid_post'" in said
    assert names.why_not("blocks.2.hook_resid_mid", "gpt_neox", 6, False) is None
    said = names.why_not("blocks.3.hook_resid_pre", "gpt2", 12, False)
    assert "same tensor as 'blocks.2.hook_resid_post'; use that name" in said
    said = names.why_not("blocks.3.hook_resid_pre", "bert", 12, False)
    assert "same tensor as 'blocks.2.hook_normalized_resid_post'" in said
    said = names.why_not("blocks.3.hook_normalized_resid_post", "gpt2", 12, False)
    assert "BERT alone" in said


def test_what_planning_imports_is_light():
    code = (
        "import sys, crossseed.cohorts.hub.sites, crossseed.cohorts.hub.loading as m;"
        "m.resolve(m.Source('lab/model@step1'));"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- reading: against forward passes written by hand -----------------------------------


class ByHand:
    """Forward passes in float64 from the stored weights, by the papers; records every site."""

    def __init__(self, path):
        self.w = {key: value.double() for key, value in load_file(path).items()}
        self.sites = {}

    def keep(self, layer, **found):
        self.sites |= {f"blocks.{layer}.hook_{key}": value for key, value in found.items()}

    def linear(self, x, name):
        y = x @ self.w[f"{name}.weight"].T
        return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

    def layer_norm(self, x, name, eps):
        x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def rms_norm(self, x, name, eps):
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * self.w[f"{name}.weight"]

    @staticmethod
    def heads(x, n):
        return x.unflatten(-1, (n, -1)).transpose(1, 2)

    @staticmethod
    def attend(q, k, v, causal):
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            t = scores.shape[-1]
            scores = scores.masked_fill(~torch.ones(t, t, dtype=bool).tril(), -torch.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)

    @staticmethod
    def rotate(x, n_dims, base=10000.0):
        """Rotary positions on the first dimensions; dimension i pairs with i + n_dims / 2."""
        half = n_dims // 2
        rates = base ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * rates
        a, b, rest = x[..., :half], x[..., half:n_dims], x[..., n_dims:]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def neox(self, tokens, parallel):
        x = self.w["gpt_neox.embed_in.weight"][tokens]
        for i in range(LAYERS):
            at = f"gpt_neox.layers.{i}"
            pre = x
            qkv = self.linear(
                self.layer_norm(pre, f"{at}.input_layernorm", 1e-5),
                f"{at}.attention.query_key_value",
            )
            q, k, v = self.heads(qkv, HEADS).chunk(3, -1)
            n_dims = int(D // HEADS * NEOX["rotary_pct"])
            z = self.attend(self.rotate(q, n_dims), self.rotate(k, n_dims), v, causal=True)
            attn = self.linear(z, f"{at}.attention.dense")
            read = pre if parallel else pre + attn
            h = self.layer_norm(read, f"{at}.post_attention_layernorm", 1e-5)
            h = torch.nn.functional.gelu(self.linear(h, f"{at}.mlp.dense_h_to_4h"))
            mlp = self.linear(h, f"{at}.mlp.dense_4h_to_h")
            x = pre + attn + mlp
            mid = {} if parallel else {"resid_mid": read}
            self.keep(i, resid_pre=pre, attn_out=attn, mlp_out=mlp, resid_post=x, **mid)

    def gpt2(self, tokens):
        w = self.w
        x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: tokens.shape[1]]
        for i in range(LAYERS):
            at = f"transformer.h.{i}"

            def conv(h, name, at=at):
                return h @ w[f"{at}.{name}.weight"] + w[f"{at}.{name}.bias"]

            pre = x
            qkv = conv(self.layer_norm(pre, f"{at}.ln_1", 1e-5), "attn.c_attn")
            q, k, v = (self.heads(part, HEADS) for part in qkv.chunk(3, -1))
            attn = conv(self.attend(q, k, v, causal=True), "attn.c_proj")
            mid = pre + attn
            h = conv(self.layer_norm(mid, f"{at}.ln_2", 1e-5), "mlp.c_fc")
            h = 0.5 * h * (1 + torch.tanh((2 / np.pi) ** 0.5 * (h + 0.044715 * h**3)))
            mlp = conv(h, "mlp.c_proj")
            x = mid + mlp
            self.keep(i, resid_pre=pre, attn_out=attn, resid_mid=mid, mlp_out=mlp, resid_post=x)

    def llama(self, tokens):
        x = self.w["model.embed_tokens.weight"][tokens]
        for i in range(LAYERS):
            at = f"model.layers.{i}"
            pre = x
            h = self.rms_norm(pre, f"{at}.input_layernorm", 1e-6)
            q, k, v = (
                self.heads(self.linear(h, f"{at}.self_attn.{name}_proj"), n)
                for name, n in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
            )
            q, k = self.rotate(q, D // HEADS), self.rotate(k, D // HEADS)
            k, v = (part.repeat_interleave(HEADS // KV_HEADS, 1) for part in (k, v))
            attn = self.linear(self.attend(q, k, v, causal=True), f"{at}.self_attn.o_proj")
            mid = pre + attn
            h = self.rms_norm(mid, f"{at}.post_attention_layernorm", 1e-6)
            gate = self.linear(h, f"{at}.mlp.gate_proj")
            gate = gate / (1 + torch.exp(-gate))
            mlp = self.linear(gate * self.linear(h, f"{at}.mlp.up_proj"), f"{at}.mlp.down_proj")
            x = mid + mlp
            self.keep(i, resid_pre=pre, attn_out=attn, resid_mid=mid, mlp_out=mlp, resid_post=x)

    def bert(self, tokens):
        w, at = self.w, "bert.embeddings"
        x = w[f"{at}.word_embeddings.weight"][tokens]
        x = x + w[f"{at}.position_embeddings.weight"][: tokens.shape[1]]
        x = x + w[f"{at}.token_type_embeddings.weight"][0]
        x = self.layer_norm(x, f"{at}.LayerNorm", 1e-12)
        for i in range(LAYERS):
            at = f"bert.encoder.layer.{i}"
            pre = x
            q, k, v = (
                self.heads(self.linear(pre, f"{at}.attention.self.{name}"), HEADS)
                for name in ("query", "key", "value")
            )
            z = self.attend(q, k, v, causal=False)
            attn = self.linear(z, f"{at}.attention.output.dense")
            mid = pre + attn
            normed = self.layer_norm(mid, f"{at}.attention.output.LayerNorm", 1e-12)
            h = torch.nn.functional.gelu(self.linear(normed, f"{at}.intermediate.dense"))
            mlp = self.linear(h, f"{at}.output.dense")
            post = normed + mlp
            x = self.layer_norm(post, f"{at}.output.LayerNorm", 1e-12)
            self.keep(i, resid_pre=pre, attn_out=attn, resid_mid=mid, mlp_out=mlp)
            self.keep(i, resid_post=post, normalized_resid_post=x)


@pytest.mark.parametrize("name", ["neox", "neox-sequential", "gpt2", "llama", "bert"])
def test_activations_equal_a_forward_pass_written_by_hand(folder, name):
    by_hand = ByHand(folder / "lab" / name / "model.safetensors")
    tokens = torch.from_numpy(TOKENS_NT.astype(np.int64))
    if name.startswith("neox"):
        by_hand.neox(tokens, parallel=name == "neox")
    else:
        getattr(by_hand, name)(tokens)
    sites = all_sites(folder, name)
    found = load(folder, name).activations(TOKENS_NT, sites)
    assert list(found) == sites
    for site in sites:
        expected = by_hand.sites.pop(site).numpy()
        assert found[site].dtype == np.float32
        assert found[site].shape == (*TOKENS_NT.shape, D)
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(found[site], expected, atol=1e-5 * np.abs(expected).max())
    # What is left are the names of inputs that are outputs of the block below.
    assert set(by_hand.sites) == {f"blocks.{i}.hook_resid_pre" for i in range(1, LAYERS)}


@pytest.mark.parametrize("name", MODELS)
def test_the_residual_stream_is_the_sum_of_what_is_added_to_it(folder, name):
    member = load(folder, name)
    sites = all_sites(folder, name)
    found = member.activations(TOKENS_NT, sites)
    assert all(member.width(site) == D for site in sites)
    pre = found["blocks.0.hook_resid_pre"]
    for layer in range(LAYERS):

        def at(hook, layer=layer):
            return found[f"blocks.{layer}.hook_{hook}"]

        mid = pre + at("attn_out")
        if name == "neox":
            assert f"blocks.{layer}.hook_resid_mid" not in sites
        else:
            np.testing.assert_allclose(at("resid_mid"), mid, atol=1e-5)
        if name != "bert":
            np.testing.assert_allclose(at("resid_post"), mid + at("mlp_out"), atol=1e-5)
            pre = at("resid_post")
            continue
        block = member.model.encoder.layer[layer]
        with torch.no_grad():
            normed = block.attention.output.LayerNorm(torch.from_numpy(at("resid_mid"))).numpy()
            post = block.output.LayerNorm(torch.from_numpy(at("resid_post"))).numpy()
        np.testing.assert_allclose(at("resid_post"), normed + at("mlp_out"), atol=1e-5)
        np.testing.assert_allclose(at("normalized_resid_post"), post, atol=1e-5)
        pre = at("normalized_resid_post")


@pytest.mark.parametrize("name", ["neox", "gpt2", "llama", "qwen3"])
def test_the_last_hidden_state_of_transformers_is_not_the_residual_stream(folder, name):
    """The trap that hooks avoid: its last entry is after the final norm, the others are not."""
    model = loading.load_model(source(folder, name), "float32", "cpu", None)
    last, before = f"blocks.{LAYERS - 1}.hook_resid_post", f"blocks.{LAYERS - 2}.hook_resid_post"
    family = names.FAMILIES[model.config.model_type]
    found = Reader(model, family).activations_on_device(TOKENS_NT, [last, before])
    tokens = torch.from_numpy(TOKENS_NT.astype(np.int64))
    with torch.no_grad():
        hidden = model(tokens, output_hidden_states=True).hidden_states
        final_norm = getattr(
            model, {"gpt_neox": "final_layer_norm", "gpt2": "ln_f"}.get(family, "norm")
        )
        torch.testing.assert_close(hidden[-2], found[before])
        assert (hidden[-1] - found[last]).abs().max() > 0.1
        torch.testing.assert_close(hidden[-1], final_norm(found[last]))


@pytest.mark.parametrize("name", MODELS)
def test_layers_above_the_highest_site_are_not_loaded(folder, name):
    low = "blocks.1.hook_attn_out"
    member = load(folder, name, [low])
    assert len(member._reader.blocks) == 2
    assert not any("pooler" in key for key in member.model.state_dict())
    full = load(folder, name)
    np.testing.assert_array_equal(
        member.activations(TOKENS_NT, [low])[low], full.activations(TOKENS_NT, [low])[low]
    )
    assert member.digest != full.digest
    assert full.digest == load(folder, name).digest
    with pytest.raises(
        UserError, match=r"'blocks.2.hook_mlp_out' does not exist, there are layers 0 to 1"
    ):
        member.activations(TOKENS_NT, ["blocks.2.hook_mlp_out"])


@pytest.mark.parametrize("name", ["neox", "bert"])
def test_layers_above_the_highest_site_are_not_run(folder, name):
    member = load(folder, name)
    calls = []
    for number, block in enumerate(member._reader.blocks):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    member.activations(TOKENS_NT, ["blocks.0.hook_resid_pre"])
    assert calls == [0]
    member.activations(TOKENS_NT, ["blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"])
    assert calls == [0, 0, 1]


def _hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_removed_even_after_an_error(folder, monkeypatch):
    member = load(folder, "gpt2")
    before = _hooks(member.model)
    member.activations(TOKENS_NT, ["blocks.1.hook_resid_mid"])
    assert _hooks(member.model) == before

    def fail(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr(member.model.h[1].mlp, "forward", fail)
    with pytest.raises(RuntimeError, match="out of order"):
        member.activations(TOKENS_NT, ["blocks.2.hook_resid_mid"])
    assert _hooks(member.model) == before


def test_a_second_reading_of_a_module_is_refused(folder):
    """As with feed-forward chunking, where the last part would pass for the whole."""
    member = load(folder, "bert")
    member.model.encoder.layer[0].chunk_size_feed_forward = 1
    with pytest.raises(AssertionError, match="runs twice"):
        member.activations(TOKENS_NT, ["blocks.0.hook_mlp_out"])


def test_tensors_on_the_device_keep_the_type_of_the_forward_pass(folder):
    site = "blocks.1.hook_resid_post"
    exact = load(folder, "neox", [site]).activations(TOKENS_NT, [site])[site]
    member = load(folder, "neox", [site], dtype="bfloat16")
    assert not member.model.training
    found = member.activations_on_device(torch.from_numpy(TOKENS_NT.astype(np.int32)), [site])[site]
    assert found.dtype == torch.bfloat16
    assert not found.requires_grad
    torch.ones(D, requires_grad=True).mul(found).sum().backward()  # usable in training
    as_array = member.activations(TOKENS_NT, [site])[site]
    assert as_array.dtype == np.float32
    np.testing.assert_array_equal(as_array, found.float().numpy())
    np.testing.assert_allclose(as_array, exact, atol=0.05 * np.abs(exact).max())


def test_activations_that_are_not_finite_are_refused_by_name(folder):
    sites = ["blocks.2.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.0.hook_resid_pre"]
    member = load(folder, "neox", sites, dtype="float16")
    with torch.no_grad():
        member.model.layers[1].mlp.dense_4h_to_h.weight.fill_(6e4)
    with pytest.raises(UserError) as caught:
        member.activations(TOKENS_NT, sites)
    said = str(caught.value)
    # The first of the layers, whatever the order asked for.
    assert said.startswith("model 'lab/neox': blocks.1.hook_mlp_out: activations of layer 1 are")
    assert said.endswith(
        "in float16; they overflow its largest value, 65504; set precision: bfloat16 or float32"
    )
    member = load(folder, "neox", sites)
    with torch.no_grad():
        member.model.layers[0].mlp.dense_4h_to_h.bias.fill_(torch.nan)
    with pytest.raises(UserError, match=r"not finite in float32; check the model's weights"):
        member.activations(TOKENS_NT, sites)


def test_tokens_and_positions_beyond_the_model_are_refused(folder):
    site = "blocks.0.hook_resid_post"
    member = load(folder, "gpt2", [site])
    with pytest.raises(UserError, match=r"token ids 0 to 61 do not fit its 61 embeddings"):
        member.activations(np.array([[0, VOCABULARY]]), [site])
    long = np.zeros((1, POSITIONS + 1), np.int32)
    with pytest.raises(UserError, match=r"sequences of 25 tokens are longer than its 24 positions"):
        member.activations(long, [site])
    # Rotary positions do not end.
    assert load(folder, "llama", [site]).activations(long, [site])[site].shape[1] == POSITIONS + 1


# --- loading: what is refused -----------------------------------------------------------


def refuses(call, *parts):
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    for part in parts:
        assert part in said, said
    return caught.value


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


# --- check ------------------------------------------------------------------------------


def run_check(root, *models, family="gpt_neox", width=D, layers=LAYERS, context=8):
    listed = [(i, "final", source(root, name)) for i, name in enumerate(models)]
    told = checking.Declared(family, width, layers, context)
    return compare(listed, told, source(root, models[0]))


DECLARED = {
    "neox": "gpt_neox",
    "neox-sequential": "gpt_neox_sequential",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "llama",
    "bert": "bert",
}


@pytest.mark.parametrize("name", DECLARED)
def test_check_refuses_every_family_but_the_models_own(folder, name):
    assert len(run_check(folder, name, family=DECLARED[name])) == 1
    for family in {*DECLARED.values()} - {DECLARED[name]}:
        with pytest.raises(
            UserError, match=f"is of family {DECLARED[name]}, but family = {family}"
        ):
            run_check(folder, name, family=family)


@pytest.mark.parametrize("name", ["neox", "gpt2", "llama", "bert"])
def test_check_refuses_a_context_longer_than_the_model_knows(folder, name):
    positions = loading.shape_of(loading.load_config(source(folder, name))).positions
    assert run_check(folder, name, family=DECLARED[name], context=positions)
    with pytest.raises(UserError, match=rf"knows {positions} positions, but tokens\.context = "):
        run_check(folder, name, family=DECLARED[name], context=positions + 1)


def test_special_tokens_of_a_chat_do_not_tell_siblings_apart(copy):
    root, path = copy()
    shutil.copytree(path, path.with_name("chat"))
    file = path.with_name("chat") / "tokenizer_config.json"
    told = json.loads(file.read_text()) | {"pad_token": "w1"}
    file.write_text(json.dumps(told))
    assert len(run_check(root, "neox", "chat")) == 2


def test_a_member_is_loaded_at_the_commit_of_its_check(folder, tmp_path, monkeypatch):
    table = tmp_path / "0.csv"
    row = dict.fromkeys(checking.COLUMNS, "")
    row |= {"seed": 1, "checkpoint": "final", "model_id": "lab/neox", "commit": COMMIT}
    write_table(table, checking.COLUMNS, [row])
    seen = []
    monkeypatch.setattr(members, "load_source", lambda source, *rest: seen.append(source))
    spec = {"seed": 1, "checkpoint": "final", "model_id": "lab/neox", "folder": None}
    members.load({**spec, "precision": "float32"}, [table], ["blocks.1.hook_resid_post"], "cpu")
    assert resolve(seen[0]) == ("lab/neox", COMMIT)
    with pytest.raises(UserError, match=r"0\.csv: has no row of 'lab/neox' \(seed 2, final\)"):
        members.load(
            {**spec, "seed": 2, "precision": "float32"},
            [table],
            ["blocks.1.hook_resid_post"],
            "cpu",
        )


def test_check_describes_siblings(folder, copy):
    root, path = copy()
    shutil.copytree(path, path.with_name("other"))
    rows = run_check(root, "neox", "other")
    assert [tuple(row) for row in rows] == [checking.COLUMNS] * 2
    digest = checking.tokenizer_of(source(root, "neox")).digest
    assert [tuple(row.values()) for row in rows] == [
        (i, "final", f"lab/{name}", None, str(root / "lab" / name), "gpt_neox", D, LAYERS, digest)
        for i, name in enumerate(("neox", "other"))
    ]
    # Truncation and padding are decided by those who tokenise.
    file = path.with_name("other") / "tokenizer.json"
    stored = json.loads(file.read_text())
    stored["truncation"] = {
        "direction": "Right",
        "max_length": 5,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    file.write_text(json.dumps(stored))
    assert len(run_check(root, "neox", "other")) == 2


def test_check_lists_all_that_is_wrong(folder, copy):
    root, path = copy()
    for name in ("rules", "words", "bare", "wide"):
        shutil.copytree(path, path.with_name(name))
    shutil.copytree(folder / "lab" / "neox-sequential", path.with_name("sequential"))
    shutil.copytree(folder / "lab" / "gpt2", path.with_name("gpt2"))
    _save_tokenizer(path.with_name("rules"), lowercase=True)
    _save_tokenizer(path.with_name("words"), tokens=VOCABULARY + 3, first="v0")
    (path.with_name("bare") / "tokenizer.json").unlink()
    (path.with_name("bare") / "model.safetensors").unlink()
    config = json.loads((path / "config.json").read_text())
    config |= {"hidden_size": 64, "num_hidden_layers": 1}
    (path.with_name("wide") / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        run_check(root, "neox", "rules", "words", "bare", "wide", "sequential", "gpt2", "absent")
    said = str(caught.value).split("\n")
    expected = [
        ("rules", "tokenizer is not that of 'lab/neox': the vocabulary is the same, but not"),
        ("words", "is not that of 'lab/neox': 6 tokens differ, e.g. '<end>' is 63, there 60"),
        ("words", "its tokenizer gives ids up to 63, but the model has 61 embeddings"),
        ("bare", f"{path.with_name('bare')} lacks its weights"),
        ("bare", f"{path.with_name('bare')} lacks its tokenizer (one of tokenizer.json"),
        ("wide", "its hidden size is 64, but width = 32; correct width"),
        ("wide", "it has 1 layers, but layers = 3; correct layers"),
        ("wide", "is no sibling of 'lab/neox': width is 64, there 32"),
        ("wide", "is no sibling of 'lab/neox': layers is 1, there 3"),
        ("sequential", "is of family gpt_neox_sequential, but family = gpt_neox"),
        ("gpt2", "is of family gpt2, but family = gpt_neox"),
        ("sequential", "is no sibling of 'lab/neox': parallel is False, there True"),
        ("gpt2", "is no sibling of 'lab/neox': model_type is gpt2, there gpt_neox"),
        ("absent", f"expected the folder {root}/lab/absent with a config.json"),
    ]
    for name, part in expected:
        assert any(s.startswith(f"model 'lab/{name}': ") and part in s for s in said), (part, said)
    assert len(said) == len(expected) + 1  # gpt2 is no sibling in `parallel` either
    assert len(set(said)) == len(said)


# --- the hub ----------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: `lab/neox` at `step1`, and refusals."""

    root: Path

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        repository, rest = "/".join(parts[:2]), parts[2:]
        if repository == "lab/silent":
            return self.connection.close()
        if repository == "lab/gated":
            return self.reply(403, {"X-Error-Code": "GatedRepo"})
        if repository == "lab/busy":
            return self.reply(503, {})
        if repository == "lab/odd":
            return self.reply(418, {})
        if repository not in ("lab/neox", "lab/bare"):
            return self.reply(404, {"X-Error-Code": "RepoNotFound"})
        if len(rest) > 1 and rest[1] not in ("step1", COMMIT):
            return self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        path = self.root / "lab" / "neox"
        there = {file.name for file in path.iterdir()}
        if repository == "lab/bare":
            there -= {"model.safetensors", "tokenizer.json"}
        if api and rest[:1] == ["tree"]:  # of a folder; there are none
            return self.reply(404, {"X-Error-Code": "EntryNotFound"})
        if api:
            files = [{"rfilename": name} for name in sorted(there)]
            found = {"_id": "0", "id": repository, "sha": COMMIT, "siblings": files}
            return self.reply(200, {}, json.dumps(found).encode(), body)
        if rest[2] not in there:
            return self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{repository}-{rest[2]}"'}
        return self.reply(200, headers, (path / rest[2]).read_bytes(), body)

    def reply(self, status, headers, content=b"", body=True):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


ASK = """
import json, sys, time
time.sleep = lambda seconds: None  # the client waits long before it tries again
from crossseed.cohorts.hub import files, loading, members
from crossseed.cohorts.hub.check import Declared, compare
from crossseed.cohorts.hub.source import Source
from crossseed.errors import UserError
from crossseed.store import write_table

SITE = "blocks.1.hook_resid_post"
found = {}
for model_id in sys.argv[1:]:
    source = Source(model_id)
    for name, call in {
        "load": lambda: members.load_source(source, [SITE], "float32", "cpu").digest,
        "tokenizer": lambda: len(loading.load_tokenizer(source)),
        "files": lambda: files.hub_files(source)[0],
        "check": lambda: compare([(1, "step1", source)], Declared("gpt_neox", 32, 3, 8), source),
    }.items():
        try:
            found[f"{model_id} {name}"] = call()
        except UserError as error:
            found[f"{model_id} {name}"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def ask(home, endpoint, *model_ids, **environment):
    """What loading and checking say in a process of its own, since its client is set up once."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("HF_") and "PROXY" not in k.upper()
    }
    kept |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    found = subprocess.run(
        [sys.executable, "-c", ASK, *model_ids],
        env=kept | environment,
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_the_hub_its_refusals_and_its_cache(folder, tmp_path):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("OfFolder", (Hub,), {"root": folder})
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    good, wrong, bare = "lab/neox@step1", "lab/neox@step7", "lab/bare@step1"
    refused = "lab/busy", "lab/odd", "lab/silent"
    try:
        said = ask(tmp_path, endpoint, good, wrong, "lab/gated", "lab/none", bare, *refused)
    finally:
        server.shutdown()
        server.server_close()
    local = low(folder)
    assert said[f"{good} load"] == local.digest
    assert said[f"{good} tokenizer"] == VOCABULARY
    (row,) = said[f"{good} check"]
    assert (row["commit"], row["folder"], row["layers"]) == (COMMIT, None, LAYERS)
    assert row["tokenizer"] == checking.tokenizer_of(source(folder, "neox")).digest
    for model_id, part in (
        (wrong, "has no revision 'step7'; choose one of the branches or tags"),
        ("lab/gated", "is gated; accept its terms on the model's page, lab/gated, and log in"),
        ("lab/none", "the hub has no model 'lab/none', or it is private; correct the name"),
        ("lab/odd", "the hub answers with HTTP status 418; check the model's page"),
    ):
        for call in ("load", "tokenizer", "check"):
            text = said[f"{model_id} {call}"]
            assert text.startswith(f"UserError: model {model_id!r}: "), text
            assert part in text, text
    text = said["lab/busy load"]
    assert text == (
        "HubUnreachable: model 'lab/busy': the hub answers with HTTP status 503; try again later"
    )
    for call in ("load", "tokenizer", "files", "check"):
        text = said[f"lab/silent {call}"]
        assert text.startswith("HubUnreachable: model 'lab/silent': the hub cannot be reached (")
        assert "set HF_HUB_OFFLINE=1 to use only the hub's cache, or set `folder`" in text
    assert "no weights were found" in said[f"{bare} load"]
    assert "the hub lacks its tokenizer" in said[f"{bare} tokenizer"]
    assert "the hub lacks its tokenizer" in said[f"{bare} check"]
    assert "the hub lacks its weights" in said[f"{bare} check"]

    # The same cache, without the hub.
    offline = ask(tmp_path, endpoint, good, "lab/other@step1", bare, HF_HUB_OFFLINE="1")
    for call in ("load", "tokenizer", "check"):
        assert offline[f"{good} {call}"] == said[f"{good} {call}"]
    for call in ("load", "check"):
        text = offline[f"lab/other@step1 {call}"]
        assert "HF_HUB_OFFLINE is set and the hub's cache does not hold it" in text
        assert "`hf download lab/other --revision step1`" in text
    text = offline["lab/other@step1 tokenizer"]
    assert "the hub's cache lacks its tokenizer" in text
    assert "fetch it with `hf download lab/other --revision step1`" in text
    # Only its configuration was downloaded.
    text = offline[f"{bare} load"]
    assert "the hub's cache lacks its weights" in text
    assert "`hf download lab/bare --revision step1`" in text


def test_a_hub_that_does_not_answer_ends_the_check_at_once(folder, monkeypatch):
    """Its silence says nothing of the members, and each would wait for it anew."""
    asked = []

    def silent(source):
        asked.append(source)
        raise HubUnreachable("no answer")

    monkeypatch.setattr(loading, "load_tokenizer", silent)
    with pytest.raises(HubUnreachable):
        run_check(folder, "neox", "other")
    assert len(asked) == 1
