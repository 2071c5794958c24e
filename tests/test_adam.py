"""Adam on the fused kernel against PyTorch's optimiser."""

import numpy as np
import pytest
import torch

from crossseed.adam import Adam


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("max_norm", [None, 1.5, 1e6])
def test_steps_equal_those_of_torch(weight_decay, max_norm):
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(7)]
    ours = [p.clone() for p in start]
    theirs = [p.clone().requires_grad_() for p in start]
    adam = Adam(ours, (0.9, 0.95), weight_decay)
    reference = torch.optim.AdamW(theirs, lr=0.1, betas=(0.9, 0.95), weight_decay=weight_decay)
    for step in range(20):
        gradients = [torch.randn_like(p) for p in start]
        lr = 0.1 / (1 + step)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = g.clone()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        adam.step(gradients, lr, max_norm)
        reference.param_groups[0]["lr"] = lr
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_state_comes_back():
    p = [torch.ones(4)]
    adam = Adam(p)
    adam.step([torch.arange(4.0)], 0.1)
    other = Adam([torch.ones(4)])
    other.restore(adam.tensors())
    assert all(np.array_equal(v, other.tensors()[k]) for k, v in adam.tensors().items())
