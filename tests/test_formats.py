"""Dictionaries of other tools: read, they encode and decode as their own tools do."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from test_port import latents

from crossseed.cli import main
from crossseed.errors import UserError
from crossseed.sae import formats
from crossseed.sae.dictionary import PER_LATENT

D, LATENTS, N, K = 12, 40, 300, 6


def tensors(seed=0, **shapes):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.4 * torch.randn(shape, generator=generator).contiguous()
        for name, shape in shapes.items()
    }


def rows():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(9))


def top(h):
    kept = h.topk(K, dim=1)
    return torch.zeros_like(h).scatter(1, kept.indices, kept.values)


LINEAR = {
    "encoder.weight": (LATENTS, D),
    "encoder.bias": (LATENTS,),
    "decoder.weight": (D, LATENTS),
}
PLAIN = {"W_enc": (D, LATENTS), "b_enc": (LATENTS,), "W_dec": (LATENTS, D), "b_dec": (D,)}


def encoder(t, x):
    return x @ t["encoder.weight"].T + t["encoder.bias"]


def batch_topk(t, x):
    h = encoder(t, x - t["b_dec"]).relu()
    return h * (h > t["threshold"]), t["decoder.weight"].T, t["b_dec"]


def matryoshka(t, x):
    h = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    return h * (h > t["threshold"]), t["W_dec"], t["b_dec"]


def gated(t, x):
    product = (x - t["decoder_bias"]) @ t["encoder.weight"].T
    magnitude = (t["r_mag"].exp() * product + t["mag_bias"]).relu()
    norm = t["decoder.weight"].norm(dim=0)
    h = (product + t["gate_bias"] > 0) * magnitude * norm
    return h, t["decoder.weight"].T / norm[:, None], t["decoder_bias"]


def jumprelu(t, x):
    pre = x @ t["W_enc"] + t["b_enc"]
    norm = t["W_dec"].norm(dim=1)
    return (pre * (pre > t["threshold"])).relu() * norm, t["W_dec"] / norm[:, None], t["b_dec"]


# Class of dictionary_learning: tensors of its state, latents, rows they are decoded by, bias.
CLASSES = {
    "AutoEncoder": (
        {**LINEAR, "bias": (D,)},
        lambda t, x: (encoder(t, x - t["bias"]).relu(), t["decoder.weight"].T, t["bias"]),
    ),
    "AutoEncoderNew": (
        {**LINEAR, "decoder.bias": (D,)},
        lambda t, x: (encoder(t, x).relu(), t["decoder.weight"].T, t["decoder.bias"]),
    ),
    "AutoEncoderTopK": (
        {**LINEAR, "b_dec": (D,)},
        lambda t, x: (top(encoder(t, x - t["b_dec"]).relu()), t["decoder.weight"].T, t["b_dec"]),
    ),
    "BatchTopKSAE": ({**LINEAR, "b_dec": (D,), "threshold": ()}, batch_topk),
    "MatryoshkaBatchTopKSAE": ({**PLAIN, "threshold": ()}, matryoshka),
    "GatedAutoEncoder": (
        {
            **{name: shape for name, shape in LINEAR.items() if name != "encoder.bias"},
            "decoder_bias": (D,),
            **dict.fromkeys(("r_mag", "gate_bias", "mag_bias"), (LATENTS,)),
        },
        gated,
    ),
    "JumpReluAutoEncoder": ({**PLAIN, "threshold": (LATENTS,)}, jumprelu),
}


def assert_same(found, h, W_dec, b_dec, x):
    ours = latents(found.architecture, found.arrays, x.numpy(), found.apply_b_dec_to_input, K)
    assert (h > 0).any()
    assert np.abs(ours - h.numpy()).max() < 1e-5
    reconstruction = ours @ found.arrays["W_dec"] + found.arrays["b_dec"]
    assert np.abs(reconstruction - (h @ W_dec + b_dec).numpy()).max() < 1e-5
    assert all(a.dtype == np.float32 and a.flags.c_contiguous for a in found.arrays.values())


def write_ae(folder, kind, state, **trainer):
    folder.mkdir()
    torch.save(state, folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": kind, **trainer}}))
    return folder


@pytest.mark.parametrize("kind", CLASSES)
def test_dictionary_learning(tmp_path, kind):
    shapes, encode = CLASSES[kind]
    state, x = tensors(**shapes), rows()
    extra = {"k": torch.tensor(K, dtype=torch.int)} if kind == "AutoEncoderTopK" else {}
    folder = write_ae(
        tmp_path / "a", kind, state | extra, layer=3, submodule_name="resid_post_layer_3"
    )
    found = formats.read(folder)
    assert found.origin == "dictionary_learning"
    assert found.site == "blocks.3.hook_resid_post"
    assert found.k == (K if extra else None)
    assert_same(found, *encode(state, x), x)


def test_a_threshold_not_yet_set_lets_everything_through(tmp_path):
    state, x = tensors(**CLASSES["BatchTopKSAE"][0]), rows()
    state["threshold"] = torch.tensor(-1.0)
    found = formats.read(write_ae(tmp_path / "a", "BatchTopKSAE", state))
    assert_same(found, *batch_topk(state, x), x)
    assert found.site is None


def write(folder, cfg, state, name):
    folder.mkdir()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / name)
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return folder


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("layers.2", "blocks.2.hook_resid_post"),
        ("h.4.mlp", "blocks.4.hook_mlp_out"),
        ("layers.1.self_attn", "blocks.1.hook_attn_out"),
        ("embed_tokens", None),
    ],
)
def test_sparsify(tmp_path, name, site):
    state = tensors(**{"encoder.weight": (LATENTS, D), "encoder.bias": (LATENTS,)})
    state |= tensors(1, W_dec=(LATENTS, D), b_dec=(D,))
    cfg = {"d_in": D, "k": K, "num_latents": LATENTS, "expansion_factor": 32, "activation": "topk"}
    found = formats.read(write(tmp_path / name, cfg, state, "sae.safetensors"))
    assert (found.origin, found.architecture, found.site, found.k) == ("sparsify", "topk", site, K)
    x = rows()
    h = top(encoder(state, x - state["b_dec"]).relu())
    assert_same(found, h, state["W_dec"], state["b_dec"], x)


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("architecture", PER_LATENT)
def test_saelens(tmp_path, architecture, apply_b_dec):
    more = dict.fromkeys(PER_LATENT[architecture], (LATENTS,))
    state = tensors(**{"W_enc": (D, LATENTS), "W_dec": (LATENTS, D), "b_dec": (D,), **more})
    cfg = {"architecture": architecture, "apply_b_dec_to_input": apply_b_dec, "d_in": D}
    cfg |= {"metadata": {"hook_name": "blocks.1.hook_resid_pre"}, "k": K}
    found = formats.read(write(tmp_path / "a", cfg, state, "sae_weights.safetensors"))
    assert (found.origin, found.architecture) == ("SAELens", architecture)
    assert found.site == "blocks.1.hook_resid_pre"
    assert found.apply_b_dec_to_input is apply_b_dec
    assert {k: v.tolist() for k, v in found.arrays.items()} == {
        k: v.tolist() for k, v in state.items()
    }


def test_saelens_topk_by_share_of_the_output_and_of_old_versions(tmp_path):
    state, x = tensors(**PLAIN), rows()
    cfg = {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True}
    found = formats.read(write(tmp_path / "new", cfg, state, "sae_weights.safetensors"))
    norm = state["W_dec"].norm(dim=1)
    h = top((((x - state["b_dec"]) @ state["W_enc"] + state["b_enc"]) * norm).relu())
    assert_same(found, h, state["W_dec"] / norm[:, None], state["b_dec"], x)
    old = {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": K},
    }
    old |= {"hook_name": "blocks.0.hook_resid_post"}
    found = formats.read(write(tmp_path / "old", old, state, "sae_weights.safetensors"))
    assert (found.architecture, found.k, found.site) == ("topk", K, "blocks.0.hook_resid_post")


SAELENS = {"architecture": "standard", "apply_b_dec_to_input": True}


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (
            {"architecture": "temporal"},
            r"architecture 'temporal' cannot be ported; what can: SAELens",
        ),
        ({"activation_fn": "tanh-relu"}, "activation 'tanh-relu'"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations = 'layer_norm'"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor is set"),
        ({"architecture": "topk"}, "k is None, expected 1 to 40"),
        ({"architecture": "gated"}, "lacks b_gate, r_mag, b_mag"),
    ],
)
def test_what_saelens_writes_and_cannot_be_ported_is_refused(tmp_path, cfg, said):
    folder = write(tmp_path / "a", SAELENS | cfg, tensors(**PLAIN), "sae_weights.safetensors")
    with pytest.raises(UserError, match=said):
        formats.read(folder)


def test_other_refusals(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; expected cfg\.json with sae_weights"):
        formats.read(tmp_path / "none")
    with pytest.raises(UserError, match="holds no dictionary of a known tool"):
        formats.read(tmp_path)
    state = tensors(**CLASSES["AutoEncoder"][0])
    with pytest.raises(UserError, match="dict_class 'CrossCoder' cannot be ported"):
        formats.read(write_ae(tmp_path / "a", "CrossCoder", state))
    with pytest.raises(UserError, match=r"lacks b_dec, threshold; it has bias, decoder\.weight"):
        formats.read(write_ae(tmp_path / "b", "BatchTopKSAE", state))
    folder = write_ae(tmp_path / "c", "AutoEncoder", state)
    (folder / "ae.pt").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"ae\.pt: cannot be read"):
        formats.read(folder)
    state["bias"] = torch.zeros(D + 1)
    with pytest.raises(UserError, match=r"b_dec has shape \(13,\), expected \(12,\)"):
        formats.read(write_ae(tmp_path / "d", "AutoEncoder", state))
    state["bias"] = torch.full((D,), float("nan"))
    with pytest.raises(UserError, match="NaN"):
        formats.read(write_ae(tmp_path / "e", "AutoEncoder", state))
    sparse = {"W_dec": torch.zeros(LATENTS, D)}
    transcoder = write(tmp_path / "f", {"transcode": True}, sparse, "sae.safetensors")
    with pytest.raises(UserError, match="transcode = True cannot be ported"):
        formats.read(transcoder)
    with pytest.raises(UserError, match="neither a folder nor a name on the hub"):
        formats.fetch("no such name")


def test_two_dictionaries_of_any_tool_are_compared(tmp_path, capsys):
    """Planted: the same latents in another order, one from sparsify, one from SAELens."""
    state = tensors(**{"encoder.weight": (LATENTS, D), "encoder.bias": (LATENTS,)})
    state |= tensors(1, W_dec=(LATENTS, D), b_dec=(D,))
    cfg = {"d_in": D, "k": K, "num_latents": LATENTS, "activation": "topk"}
    first = write(tmp_path / "layers.2", cfg, state, "sae.safetensors")
    order = torch.randperm(LATENTS, generator=torch.Generator().manual_seed(5))
    other = {
        "W_enc": state["encoder.weight"][order].T.contiguous(),
        "b_enc": state["encoder.bias"][order].contiguous(),
        "W_dec": state["W_dec"][order].contiguous(),
        "b_dec": state["b_dec"],
    }
    saelens = {"architecture": "topk", "k": K, "apply_b_dec_to_input": True, "d_in": D}
    second = write(tmp_path / "other", saelens, other, "sae_weights.safetensors")
    table, pairs = tmp_path / "found.csv", tmp_path / "pairs.csv"
    files = ["--out", str(table), "--pairs", str(pairs)]
    assert main(["compare", str(first), str(second), *files]) == 0
    assert "strict       1.0000" in capsys.readouterr().out
    found = pd.read_csv(table).set_index(["quantity", "part"])
    assert found.value["strict", "all"] == 1
    assert found.null["strict", "all"] < 0.1
    partner = pd.read_csv(pairs).second.to_numpy()
    assert np.array_equal(order.numpy()[partner], np.arange(LATENTS))
    state["W_dec"], state["encoder.weight"] = state["W_dec"][:-1], state["encoder.weight"][:-1]
    state["encoder.bias"] = state["encoder.bias"][:-1]
    smaller = write(
        tmp_path / "smaller", {**cfg, "num_latents": LATENTS - 1}, state, "sae.safetensors"
    )
    assert main(["compare", str(first), str(smaller)]) == 2
    assert "only dictionaries of one shape" in capsys.readouterr().err
    assert main(["compare", str(first), str(second), "--threshold", "1.5"]) == 2
    assert "--threshold 1.5 is no cosine" in capsys.readouterr().err
