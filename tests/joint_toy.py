"""Two toy models, one the other turned, and a joint SAE of them: what tests of `crossseed.joint` share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossseed.alignment.maps import haar_orthogonal, identity
from crossseed.joint import maps, model, training
from crossseed.joint.conditions import of_condition
from crossseed.joint.config import JointEvaluation, JointTraining
from crossseed.joint.upper import Cache
from crossseed.resume import Resume

WIDTH, CLASSES, LENGTH = 16, 3, 12
EXAMPLES = 240


def settings(**changes):
    own = {
        "expansion": 4, "k": 4, "aux_k": 16, "lr": 5e-3, "batch": 16, "epochs": 12, "weight_decay": 0.0,
        "early_stopping_patience": None, **changes,
    }  # fmt: skip
    return JointTraining.model_validate(own)


MEASURE = JointEvaluation(resamples=100, shifts=3)


class Toy:
    """Mixes tokens by attention to their mean, then an MLP; reads a class off the mean state. Behind `turn` it computes
    the same of turned activations."""

    def __init__(self, seed=0, turn=None):
        rng = np.random.default_rng(seed)

        def weight(*shape):
            return torch.from_numpy(rng.standard_normal(shape) / np.sqrt(shape[0])).float()

        self.into, self.out = weight(WIDTH, 32), weight(32, WIDTH)
        self.head = 2 * weight(WIDTH, CLASSES)
        self.turn = torch.eye(WIDTH) if turn is None else torch.from_numpy(turn).float()

    def __call__(self, h_bld, mask_bl, at_bp=None):
        own = mask_bl.unsqueeze(2).to(h_bld)
        x = h_bld @ self.turn
        mean = (x * own).sum(dim=1, keepdim=True) / own.sum(dim=1, keepdim=True)
        x = x + torch.tanh((x + mean) @ self.into) @ self.out
        logits = ((x * own).sum(dim=1) / own.sum(dim=1)) @ self.head
        return x @ self.turn.T, logits


def sparse_states(n=EXAMPLES, seed=0, pool=0):
    """Sums of few of 40 directions, and where they are tokens."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(100 + pool).standard_normal((40, WIDTH))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    active = rng.random((n, LENGTH, 40)) < 0.06
    h = (active * (0.5 + rng.exponential(size=active.shape))) @ directions
    h += 0.02 * rng.standard_normal(h.shape)
    lengths = rng.integers(4, LENGTH + 1, n)
    return h.astype(np.float32), np.arange(LENGTH) < lengths[:, None]


def cache_of(h, mask, uppers, dtype=np.float32):
    with torch.no_grad():
        passed = [
            u(torch.from_numpy(x), torch.from_numpy(mask)) for u, x in zip(uppers, h, strict=True)
        ]
    special = np.zeros_like(mask)
    special[:, 0] = True
    n = len(mask)
    logits = tuple(one[1].numpy() for one in passed)
    return Cache(
        h=tuple(x.astype(dtype) for x in h),
        next=tuple(one[0].numpy().astype(dtype) for one in passed),
        logits=logits,
        mask=mask, special=special, labels=logits[0].argmax(axis=1),
        tokens=np.zeros(mask.shape, int), document=np.arange(n),
    )  # fmt: skip


TURN = haar_orthogonal(np.random.default_rng(7), WIDTH)
# B's states are A's times TURNᵀ, and its upper half turns them back: h_B @ TURN = h_A.
TWINS = (Toy(), Toy(turn=TURN))


def twins(n=EXAMPLES, seed=0):
    """A, and B which is A turned at the site and turned back above."""
    h, mask = sparse_states(n, seed)
    return cache_of((h, (h @ TURN.T).astype(np.float32)), mask, TWINS)


@pytest.fixture(scope="module")
def cache():
    return twins()


@pytest.fixture(scope="module")
def held_out():
    return twins(120, seed=1)


def fitted(config, cache, carried, path, held_out=None, **more):
    uppers = more.pop("uppers", TWINS)
    return training.train(
        config, carried, uppers, cache, held_out, "cpu", Resume(path / "x", {}), "cell", **more
    )


def pairs_of(cache, n=100):
    return cache.pairs(np.arange(n))


# Training


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    """Joint SAEs of the twins, by map: with W, and without."""
    carried = {"true": maps.true(pairs_of(cache)), "identity": maps.unaligned(WIDTH)}
    return {
        condition: (
            config,
            fitted(config, cache, carried[name], tmp_path_factory.mktemp(condition)),
        )
        for condition in ("4", "5", "6")
        for config, name in [of_condition(settings(), condition)]
    }


@pytest.fixture(scope="module")
def independent(cache, tmp_path_factory):
    """SAEs of A and of B, each of one model alone, from distinct starts."""
    config, _ = of_condition(settings(init="distinct", epochs=24, lr=1e-2), "1")
    path = tmp_path_factory.mktemp("independent")
    return [
        model.of_arrays(
            config,
            fitted(config, cache, identity(WIDTH), path, models=(m,)).arrays,
            models=(m,),
        )
        for m in (0, 1)
    ]
