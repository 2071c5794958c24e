"""Language models: sites and reading, beside forward passes written by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hub_folders import (
    HEADS,
    KV_HEADS,
    LAYERS,
    MODELS,
    NEOX,
    POSITIONS,
    TOKENS_NT,
    VOCABULARY,
    D,
    all_sites,
    folder,
    load,
    source,
)
from safetensors.torch import load_file

from crossseed.cohorts.hub import loading
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.reading import Reader
from crossseed.errors import UserError

__all__ = ["folder"]


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
