"""Planted truth: copies of models whose residual stream is turned, and that compute the same."""

import copy

import numpy as np
import torch

from crossseed.alignment.maps import haar_orthogonal


def rotation(width, seed=0, fixes_ones=False):
    """A random rotation; under LayerNorm, which takes out the mean, one that leaves all-ones alone."""
    rng = np.random.default_rng(seed)
    if not fixes_ones:
        return haar_orthogonal(rng, width)
    basis = np.linalg.qr(np.c_[np.ones(width), rng.standard_normal((width, width - 1))])[0]
    inner = np.eye(width)
    inner[1:, 1:] = haar_orthogonal(rng, width - 1)
    return basis @ inner @ basis.T


def turned_toy(model, r):
    """A toy whose residual stream is x R, its norms' gains folded into what reads them."""
    found = copy.deepcopy(model)
    r = torch.from_numpy(r).float()
    with torch.no_grad():
        for block in found.blocks:
            for name in ("W_Q", "W_K", "W_V"):
                weight = getattr(block.attn, name)
                weight.copy_((weight * block.ln1.gain) @ r)
            block.attn.W_O.copy_(r.T @ block.attn.W_O)
            block.mlp.W_in.copy_((block.mlp.W_in * block.ln2.gain) @ r)
            block.mlp.W_out.copy_(r.T @ block.mlp.W_out)
            for norm in (block.ln1, block.ln2):
                norm.gain.fill_(1.0)
        for name in ("W_U_tok", "W_U_depth", "W_U_valid"):
            weight = getattr(found, name)
            weight.copy_((weight * found.ln_f.gain) @ r)
        found.ln_f.gain.fill_(1.0)
        found.W_E.copy_(found.W_E @ r)
        found.W_pos.copy_(found.W_pos @ r)
    return found


def _fold(norm, *linears):
    """Gain and bias of a LayerNorm, into the layers that read it."""
    for linear in linears:
        if linear.bias is not None:
            linear.bias.add_(linear.weight @ norm.bias)
        linear.weight.mul_(norm.weight)
    norm.weight.fill_(1.0)
    norm.bias.fill_(0.0)


def turned_neox(model, r):
    """A GPT-NeoX model whose residual stream is x R; R fixes the all-ones vector.

    The unembedding has no bias, so the final norm's must be zero.
    """
    found = copy.deepcopy(model)
    r = torch.from_numpy(r).to(next(found.parameters()))
    base = found.gpt_neox
    with torch.no_grad():
        for layer in base.layers:
            reads = (layer.attention.query_key_value, layer.mlp.dense_h_to_4h)
            _fold(layer.input_layernorm, reads[0])
            _fold(layer.post_attention_layernorm, reads[1])
            for linear in reads:
                linear.weight.copy_(linear.weight @ r)
            for linear in (layer.attention.dense, layer.mlp.dense_4h_to_h):
                linear.weight.copy_(r.T @ linear.weight)
                linear.bias.copy_(linear.bias @ r)
        _fold(base.final_layer_norm, found.lm_head)
        found.lm_head.weight.copy_(found.lm_head.weight @ r)
        base.embed_in.weight.copy_(base.embed_in.weight @ r)
    return found
