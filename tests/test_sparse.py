"""SAEs of which few latents are active: sums over these give what dense products give, and cost one of them."""

import numpy as np
import pytest
import torch
from test_sae import reference_loss
from torch.utils.flop_counter import FlopCounterMode

from crossseed import products
from crossseed.sae import sparse, training
from crossseed.sae.architectures import batchtopk, relu_l1, topk

BASE = {
    "expansions": [3], "inits": ["shared"], "members": "all", "steps": 30, "batch_tokens": 200,
    "lr": 2e-3, "warmup_steps": 0, "decay_steps": 0, "tied_init": False, "standardise": False,
    "grad_clip": None,
}  # fmt: skip
# What `sparse.Active.products` is made of.
needs_mkl = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="PyTorch without MKL has no such sums"
)
MODULES = {"topk": topk, "batchtopk": batchtopk, "relu_l1": relu_l1}


def config_of(architecture, **own):
    own = own or {"k": 5, "aux_coefficient": 0.03, "aux_k": 4, "dead_after_tokens": 600}
    return MODULES[architecture].Config.model_validate(
        {**BASE, "architecture": architecture, **own}
    )


def started(config, d, n):
    torch.manual_seed(0)
    trainer = training.Trainer(config, training.initial_arrays(d, n, False, "test"), "cpu")
    trainer.weights.b_enc.normal_(0, 0.1)
    trainer.weights.b_dec.normal_(0, 0.5)
    return trainer


def both(config, x, d, n, prepare=lambda weights: None, monkeypatch=None):
    """Gradients, loss and activity by dense products, and by sums."""
    found = []
    for pays in (False, True):
        monkeypatch.setattr(sparse, "pays", lambda *_, pays=pays: pays)
        trainer = started(config, d, n)
        prepare(trainer.weights)
        trainer.objective.gradients(trainer.weights, x, trainer.gradients)
        g = trainer.gradients
        found.append([*g.in_order(), g.loss, g.activity, *trainer.weights.more.values()])
    return found


def tie(weights):
    """Latents in groups of three that see the same."""
    for other in (1, 2):
        weights.W_enc[:, other::3] = weights.W_enc[:, ::3]
        weights.b_enc[other::3] = weights.b_enc[::3]


def kill(weights):
    weights.silent_tokens[3:40:2] = 600


def sink(weights):
    """Few pre-activations are above 0; in most rows fewer than k, in some none."""
    weights.b_enc.sub_(2.5)


def sink_all(weights):
    weights.b_enc.sub_(1e3)


@needs_mkl
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("prepare", [lambda weights: None, tie, kill, sink, sink_all])
@pytest.mark.parametrize("n", [48, 480])
def test_sums_over_active_latents_equal_dense_products(architecture, prepare, n, monkeypatch):
    monkeypatch.setattr(sparse, "BLOCK_BYTES", 4 * n * 37)
    monkeypatch.setattr(sparse, "SUM_BYTES", 4 * 16 * 11)
    x = torch.randn(200, 16, generator=torch.Generator().manual_seed(1))
    dense, sums = both(config_of(architecture), x, 16, n, prepare, monkeypatch)
    for one, other in zip(dense, sums, strict=True):
        assert torch.allclose(one, other, atol=1e-7, rtol=1e-5)
    if prepare is sink_all:
        assert not sums[0].any()
    else:
        assert sums[0].any()


def test_ties_are_all_kept_and_rows_may_have_fewer_than_k():
    pre = np.array([[1, 3, 3, 2, -1, 0], [-1, 4, -2, 0, -3, -4], [-1] * 6], np.float32)
    at, values = sparse.k_largest(pre, 2)
    assert at.tolist() == [1, 2, 7]
    assert values.tolist() == [3, 3, 4]
    assert sparse.k_largest(pre, 1)[0].tolist() == [1, 2, 7]
    assert sparse.k_largest(pre, 3)[0].tolist() == [1, 2, 3, 7]
    assert batchtopk.above(pre, 1)[0].tolist() == [7]
    # The third largest is among those that are left out.
    assert batchtopk.above(pre, 2)[0].tolist() == [7]
    assert batchtopk.above(pre, 3)[0].tolist() == [1, 2, 7]
    assert batchtopk.above(pre, 18)[0].tolist() == [0, 1, 2, 3, 7]


@pytest.mark.parametrize(("n", "k"), [(40, 5), (1500, 5), (4096, 32), (1000, 400)])
def test_the_k_largest_are_those_that_a_dictionary_keeps(n, k):
    pre = np.random.default_rng(0).standard_normal((64, n)).astype(np.float32)
    pre[1] = np.repeat(pre[1, : n // 4], 4)
    at, values = sparse.k_largest(pre, k)
    wanted = topk.activate(pre.copy(), {"k": k}, {})
    assert np.array_equal(at, np.flatnonzero(wanted))
    assert np.array_equal(values, wanted.ravel()[at])


@needs_mkl
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_sums_over_active_latents_equal_autograd(architecture, monkeypatch):
    monkeypatch.setattr(sparse, "pays", lambda *_: True)
    config = config_of(architecture)
    trainer = started(config, 16, 48)
    kill(trainer.weights)
    x = torch.randn(200, 16)
    trainer.objective.gradients(trainer.weights, x, trainer.gradients)
    p = {
        name: tensor.clone().double().requires_grad_()
        for name, tensor in zip(training.NAMES, trainer.trained, strict=True)
    }
    loss = reference_loss(config, p, x.double(), trainer.weights.silent_tokens)
    loss.backward()
    for name, gradient in zip(training.NAMES, trainer.gradients.in_order(), strict=True):
        assert torch.allclose(gradient.double(), p[name].grad, atol=1e-6, rtol=1e-4), name
    assert trainer.gradients.loss.item() == pytest.approx(loss.item(), rel=1e-5)


@needs_mkl
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_steps_by_sums_give_the_same_bytes_each_time_and_from_a_saved_state(
    architecture, monkeypatch
):
    monkeypatch.setattr(sparse, "pays", lambda *_: True)
    x = torch.randn(5, 200, 16)
    found = []
    for saved_at in (None, None, 3):
        trainer = started(config_of(architecture), 16, 48)
        kill(trainer.weights)
        for step, rows in enumerate(x):
            if step == saved_at:
                state = trainer.tensors()
                trainer = started(config_of(architecture), 16, 48)
                trainer.restore(state)
            trainer.step(rows, step)
        found.append(trainer.tensors())
    for other in found[1:]:
        assert all(np.array_equal(value, other[name]) for name, value in found[0].items())


def _of_bag(weights, latents, *_, out_shape=None, **__):
    return 2 * latents[0] * weights[1]


def _of_addmm(_bias, a, b, *_, out_shape=None, **__):
    return 2 * a[0] * a[1] * b[1]


aten = torch.ops.aten


def counted(k):
    """How PyTorch's counter is told of what it leaves out.

    Shapes of sparse matrices do not say how much is in them: as many as `k` a token.
    """

    def of_sampled(where, rows, columns, *_, out_shape=None, **__):
        return 2 * where[0] * k * rows[1]

    return {
        aten.addmm_: _of_addmm,
        aten._embedding_bag: _of_bag,
        aten._embedding_bag_forward_only: _of_bag,
        aten.sparse_sampled_addmm: of_sampled,
    }


def dense_products(architecture, own, k):
    """Products of a training step, in dense products a token."""
    d, n, batch = 32, 4096, 256
    trainer = started(config_of(architecture, **own), d, n)
    x = torch.randn(batch, d)
    with FlopCounterMode(display=False, custom_mapping=counted(k)) as counter:
        trainer.step(x, 0)
    return counter.get_total_flops() / (2 * batch * d * n)


@needs_mkl
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("k", [4, 16, 64])
def test_of_few_active_latents_one_product_is_dense(architecture, k):
    """And four are as sparse as the latents. Adam and norms are no products."""
    own = {"k": k, "aux_coefficient": 0.03, "aux_k": 16, "dead_after_tokens": 10**9}
    assert dense_products(architecture, own, k) == pytest.approx(1 + 4 * k / 4096, abs=1e-4)


def test_all_five_products_of_relu_are_dense():
    assert dense_products("relu_l1", {"l1": 1e-3}, 0) == pytest.approx(5, abs=1e-4)


@needs_mkl
@pytest.mark.parametrize(("fast", "most"), [(False, (42, 102)), (True, (21, 51))])
def test_sums_are_for_few_active_latents_on_a_processor(fast, most, monkeypatch):
    monkeypatch.setattr(products, "by_onednn", lambda: fast)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for width, k in zip((64, 512), most, strict=True):
        assert sparse.pays(width, 512, k, cpu)
        assert not sparse.pays(width, 512, k + 1, cpu)
    assert not sparse.pays(512, 4096, 32, gpu)
