"""The terms of the objective (equations 2 to 7), each of one model; the total takes the mean over models.

L = λ_KL L_KL + λ_DS L_DS + λ_local L_local + λ_cross L_cross + λ_aux L_aux (+ λ_mutual L_mutual)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from crossseed.joint.coder import Codes
from crossseed.joint.config import JointTraining

TERMS = ("kl", "ds", "local", "cross", "aux", "mutual")
# Decoder rows whose cosines with all others are held at a time.
BLOCK_ROWS = 1024


def divergence(clean_bc: Tensor, hijacked_bc: Tensor) -> Tensor:
    """KL(softmax g ‖ softmax ĝ) in nats, each example's, (examples,) (equation 3).

    Args:
        clean_bc, hijacked_bc: logits, (examples, classes), or (examples, predictions, classes), of which the mean is taken.
    """
    log_p, log_q = clean_bc.float().log_softmax(dim=-1), hijacked_bc.float().log_softmax(dim=-1)
    found = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)
    return found if found.dim() == 1 else found.mean(dim=1)


def kl(clean_bc: Tensor, hijacked_bc: Tensor) -> Tensor:
    """Mean over examples of `divergence` of logits, shapes as there; a number, in nats (equation 3)."""
    return divergence(clean_bc, hijacked_bc).mean()


def mse(found_nd: Tensor, wanted_nd: Tensor) -> Tensor:
    """Mean over tokens and dimensions of the squared difference (MSE_M, of rows that the mask left)."""
    return (found_nd.float() - wanted_nd.float()).square().mean()


def downstream(
    hijacked_bld: Tensor, clean_bld: Tensor, mask_bl: Tensor | None, n_real: int = 0
) -> Tensor:
    """Squared difference of the next layer's states, in the model's own frame (equation 4).

    Args:
        hijacked_bld, clean_bld: (examples, tokens, width).
        mask_bl: true where a token is no padding; None takes padding in, as the equation has it.
        n_real: number of tokens in the mask.
    """
    if mask_bl is None:
        return mse(hijacked_bld, clean_bld)
    difference = (hijacked_bld.float() - clean_bld).square().sum(dim=2)
    return (difference * mask_bl).sum() / (n_real * hijacked_bld.shape[2])


def local(error_nd: Tensor) -> Tensor:
    """Squared error at the site, (tokens, width), the mean over both, in the aligned frame (equation 5); for a rotation,
    that in the native one."""
    return error_nd.square().mean()


def cross(a: Codes, b: Codes, reduction: Literal["mean", "sum"]) -> Tensor:
    """Squared difference of two codes of the same tokens (equation 6), as if they were (tokens, latents): a mean over
    tokens of the mean, or the sum, over latents; a number.

    Kept latents are compared with kept ones: what neither keeps does not differ.
    """
    same = (a.latents_nk.unsqueeze(2) == b.latents_nk.unsqueeze(1)).to(b.values_nk)
    own_of_b = torch.bmm(same, b.values_nk.unsqueeze(2)).squeeze(2)
    alone_b = b.values_nk * (1 - same.sum(dim=1))
    total = (a.values_nk - own_of_b).square().sum() + alone_b.square().sum()
    mean = total / len(a.values_nk)
    return mean / a.n_latents if reduction == "mean" else mean


def aux(rhat_nd: Tensor, error_nd: Tensor, n_dead: int, aux_k: int) -> Tensor:
    """Dead latents' reconstruction of what is left over, x − x̂, which gets no gradient (equation 7).

    Args:
        rhat_nd: (tokens, width). error_nd: x̂ − x.
        n_dead: dead latents; with fewer than `aux_k` the term counts for less, n_dead / aux_k.
    """
    return mse(rhat_nd, -error_nd.detach()) * min(1.0, n_dead / aux_k)


def mutual(first_fd: Tensor, second_fd: Tensor) -> Tensor:
    """1 − the mean cosine of each unit decoder row, (latents, width), with the nearest of the other SAE, over both directions
    (mutual feature regularisation, arXiv 2411.01220)."""
    means = []
    for own, other in ((first_fd, second_fd), (second_fd, first_fd)):
        with torch.no_grad():
            blocks = [(part @ other.T).argmax(dim=1) for part in own.split(BLOCK_ROWS)]
            nearest = torch.cat(blocks)
        means.append(torch.linalg.vecdot(own, other.index_select(0, nearest)).mean())
    return 1 - (means[0] + means[1]) / 2


def weights(config: JointTraining) -> dict[str, float]:
    """λ of each term."""
    return {name: getattr(config, f"lambda_{name}") for name in TERMS}


def total(terms: Mapping[str, Tensor], by: Mapping[str, float]) -> Tensor:
    """Σ λ × term (equation 2), a number, of shape ().

    Args:
        terms: by name, of `TERMS`. by: λ of each.
    """
    found: Tensor = sum((by[name] * term for name, term in terms.items()), torch.zeros(()))
    return found
