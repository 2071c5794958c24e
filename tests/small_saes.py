"""Small SAEs of every architecture, and their losses written plainly for autograd."""

import torch

from crossseed.sae.architectures import batchtopk, gated, jumprelu, relu_l1, topk

BASE = {
    "expansions": [3],
    "inits": ["shared"],
    "members": "all",
    "steps": 30,
    "batch_tokens": 200,
    "lr": 2e-3,
    "warmup_steps": 3,
    "decay_steps": 5,
    "tied_init": False,
    "standardise": False,
    "grad_clip": None,
}


TOPK = {"k": 5, "aux_coefficient": 0.03, "aux_k": 4, "dead_after_tokens": 600}


def relu_config(**changed):
    return relu_l1.Config.model_validate({**BASE, "architecture": "relu_l1", "l1": 0.02, **changed})


def topk_config(**changed):
    return topk.Config.model_validate({**BASE, "architecture": "topk", **TOPK, **changed})


def batchtopk_config(**changed):
    return batchtopk.Config.model_validate({**BASE, "architecture": "batchtopk", **TOPK, **changed})


def jumprelu_config(**changed):
    own = {"l0": 2e-3, "bandwidth": 0.5, "threshold": 0.1}
    return jumprelu.Config.model_validate({**BASE, "architecture": "jumprelu", **own, **changed})


def gated_config(**changed):
    return gated.Config.model_validate({**BASE, "architecture": "gated", "l1": 0.02, **changed})


CONFIGS = [relu_config, topk_config, batchtopk_config, jumprelu_config, gated_config]


class Jump(torch.autograd.Function):
    """z · 1[z > θ], with the estimator of arXiv 2407.14435 for θ."""

    @staticmethod
    def forward(ctx, z, theta, width):
        ctx.save_for_backward(z, theta)
        ctx.width = width
        return z * (z > theta)

    @staticmethod
    def backward(ctx, upstream):
        z, theta = ctx.saved_tensors
        window = (((z - theta) / ctx.width).abs() < 0.5).to(z)
        by_theta = -(theta / ctx.width) * window * upstream
        return upstream * (z > theta), by_theta.sum(dim=0), None


class Step(torch.autograd.Function):
    """1[z > θ], with its estimator."""

    @staticmethod
    def forward(ctx, z, theta, width):
        ctx.save_for_backward(z, theta)
        ctx.width = width
        return (z > theta).to(z)

    @staticmethod
    def backward(ctx, upstream):
        z, theta = ctx.saved_tensors
        window = (((z - theta) / ctx.width).abs() < 0.5).to(z)
        return torch.zeros_like(z), (-window / ctx.width * upstream).sum(dim=0), None


def gated_loss(config, p, x):
    pre = (x - p["b_dec"]) @ p["W_enc"]
    gate = pre + p["b_enc"]
    h = (gate > 0) * (pre * p["r_mag"].exp() + p["b_mag"]).relu()
    again = gate.relu() @ p["W_dec"].detach() + p["b_dec"].detach()
    loss = (h @ p["W_dec"] + p["b_dec"] - x).square().mean() + (again - x).square().mean()
    return loss + config.l1 * gate.relu().sum(dim=1).mean()


def reference_loss(config, p, x, silent):
    """The loss by its definition, for autograd."""
    if config.architecture == "gated":
        return gated_loss(config, p, x)
    pre = (x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]
    if config.architecture == "relu_l1":
        h = pre.relu()
    elif config.architecture == "jumprelu":
        theta = p["log_threshold"].exp()
        h = Jump.apply(pre, theta, config.bandwidth)
        active = Step.apply(pre, theta, config.bandwidth)
        loss = (h @ p["W_dec"] + p["b_dec"] - x).square().mean()
        return loss + config.l0 * active.sum(dim=1).mean()
    elif config.architecture == "batchtopk":
        kept = pre.flatten().topk(config.k * len(x))
        h = torch.zeros_like(pre.flatten()).scatter(0, kept.indices, kept.values.relu())
        h = h.view(pre.shape)
    else:
        kept = pre.topk(config.k, dim=1)
        h = torch.zeros_like(pre).scatter(1, kept.indices, kept.values.relu())
    error = h @ p["W_dec"] + p["b_dec"] - x
    loss = error.square().mean()
    if config.architecture == "relu_l1":
        return loss + config.l1 * h.sum(dim=1).mean()
    dead = (silent >= config.dead_after_tokens).nonzero().squeeze(1)
    if len(dead):
        pre_dead = (x - p["b_dec"]) @ p["W_enc"][:, dead] + p["b_enc"][dead]
        kept = pre_dead.topk(min(config.aux_k, len(dead)), dim=1)
        h_dead = torch.zeros_like(pre_dead).scatter(1, kept.indices, kept.values.relu())
        miss = h_dead @ p["W_dec"][dead] + error.detach()
        loss = loss + config.aux_coefficient * miss.square().mean()
    return loss


SPEC = {
    "cohort": "c",
    "seed": 0,
    "checkpoint": "final",
    "site": "site",
    "dictionary": "v-x3",
    "expansion": 3,
    "activations": "origin:site",
}
