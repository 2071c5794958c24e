"""Joint SAEs of two models: a planted rotation is what it takes to share latents, precision is what it says, and a killed
training ends as if it had not been."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from joint_toy import (
    MEASURE,
    TWINS,
    WIDTH,
    cache,
    fitted,
    held_out,
    independent,
    pairs_of,
    settings,
    trained,
)

from crossseed.alignment.maps import identity
from crossseed.errors import TrainingDiverged, UserError
from crossseed.joint import losses, maps, model, training
from crossseed.joint.behaviour import behaviour, behaviour_rows
from crossseed.joint.model import JointSAE
from crossseed.joint.sides import (
    joint_sides,
)
from crossseed.joint.universality import universality
from crossseed.resume import Resume

__all__ = ["cache", "held_out", "independent", "trained"]


def test_the_rotation_is_what_makes_latents_universal(trained, held_out):
    found = {
        condition: universality(
            joint_sides(model.of_arrays(config, one.arrays)), held_out, MEASURE, "t"
        )
        for condition, (config, one) in trained.items()
    }
    for condition in ("5", "6"):
        measured = found[condition].measured
        assert measured["universal_share"].estimate.value > 0.99
        assert measured["top10_r"].estimate.value > 0.999
        assert measured["active"].estimate.value > 30
        # Its own null: latents of the same density that have nothing to do with each other.
        assert measured["universal_share"].null == 0
        assert abs(measured["mean_r"].null) < 0.02
        low, high = measured["mean_r"].estimate[1:]
        assert low <= measured["mean_r"].estimate.value <= high
    without = found["4"].measured
    assert without["universal_share"].estimate.value < 0.05
    assert found["4"].used["top100_r"] == without["active"].estimate.value < 100


def test_training_explains_and_keeps_the_behaviour(trained, held_out):
    config, one = trained["6"]
    losses_of = [row["total"] for row in one.history]
    assert losses_of[-1] < 0.3 * losses_of[0]
    start = JointSAE(config, WIDTH, identity(WIDTH))
    sae = model.of_arrays(config, one.arrays)
    found = behaviour(sae, TWINS, held_out)
    rows = behaviour_rows(found, MEASURE, "t")
    before = behaviour_rows(behaviour(start, TWINS, held_out), MEASURE, "t")
    assert rows["fvu"].value < 0.3 < before["fvu"].value
    assert rows["kl"].value < before["kl"].value / 5
    assert rows["l0"].value <= config.k
    assert rows["accuracy_clean"].value == 100
    assert rows["accuracy_change"].value == pytest.approx(100 - rows["accuracy_hijacked"].value)
    # Twins behave alike: both columns are one, up to rounding.
    assert np.allclose(found.kl_em[:, 0], found.kl_em[:, 1], atol=1e-4)
    again = behaviour_rows(found, MEASURE, "t", independent=found)
    assert again["accuracy_change_from_independent"].value == 0
    with pytest.raises(UserError, match="measure both on the same split"):
        few = found._replace(hijacked_em=found.hijacked_em[1:])
        behaviour_rows(found, MEASURE, "t", independent=few)


def test_the_cross_loss_is_lower_where_it_is_trained(cache, tmp_path):
    """Where W is only half right, the cross loss draws the codes together."""
    half = maps.restricted(np.random.default_rng(2), pairs_of(cache), 12, "haar")
    ends = {}
    for weight in (0.0, 20.0):
        config = settings(lambda_cross=weight, epochs=6)
        one = fitted(config, cache, half, tmp_path)
        sae = model.of_arrays(config, one.arrays)
        batch = cache.batch(np.arange(60), True, "cpu")
        a, b = sae([batch.coded(0), batch.coded(1)]).codes
        own = float(losses.cross(a, b, "mean").detach())
        ends[weight] = own / float(a.dense().detach().square().mean())
    assert ends[20.0] < 0.9 * ends[0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"early_stopping_patience": 2},
        {"kind": "universal", "lambda_cross": 0.0},
        {"kind": "crosscoder", "lambda_cross": 0.0},
    ],
)
def test_resume_after_a_kill_is_bit_exact(cache, held_out, tmp_path, changes):
    config = settings(epochs=3, dead_window=0.1, **changes)
    outside = held_out if config.early_stopping_patience else None
    carried = maps.true(pairs_of(cache))
    whole = fitted(config, cache, carried, tmp_path, outside)

    class Killed(Exception):
        pass

    resume = Resume(tmp_path / "y", {}, seconds=0)

    def run(after_step=lambda step: None):
        return training.train(
            config, carried, TWINS, cache, outside, "cpu", resume, "cell", after_step=after_step
        )

    for stop in (4, 15, 37):

        def kill(step, stop=stop):
            if step == stop:
                raise Killed

        with pytest.raises(Killed):
            run(kill)
    again = run()
    assert again.history == whole.history
    assert (again.steps, again.kept_epoch) == (whole.steps, whole.kept_epoch)
    for name, value in whole.arrays.items():
        assert np.array_equal(value, again.arrays[name]), name


def test_patience_ends_training_and_keeps_the_best(cache, held_out, tmp_path, monkeypatch):
    """Planted: the held-out loss is lowest after the second of eight epochs."""
    planted = [3.0, 2.0, 2.5, 2.0, 9.0]
    monkeypatch.setattr(training.Trainer, "held_out", lambda trainer, cache: planted.pop(0))
    config = settings(epochs=8, early_stopping_patience=2)
    one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path, held_out)
    assert [row["held_out"] for row in one.history] == [3, 2, 2.5, 2]
    assert (one.kept_epoch, planted) == (2, [9])
    assert one.steps == 4 * 15
    shorter = settings(epochs=8, early_stopping_patience=None)
    states = {}

    class Stop(Exception):
        pass

    def look(step):
        if step == 30:
            raise Stop

    resume = Resume(tmp_path / "z", {}, seconds=0)
    with pytest.raises(Stop):
        training.train(
            shorter, maps.true(pairs_of(cache)), TWINS, cache, None, "cpu", resume, "cell",
            after_step=look,
        )  # fmt: skip
    states, _ = resume.load()
    for name, array in one.arrays.items():
        assert np.array_equal(array, states[name]), name


def test_the_held_out_loss_is_that_of_the_trained(cache, held_out, tmp_path):
    config = settings(epochs=2, early_stopping_patience=2)
    one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path, held_out)
    sae = model.of_arrays(config, one.arrays)
    trainer = training.Trainer(config, sae, TWINS, training.plan_of(config, cache))
    wanted = one.history[one.kept_epoch - 1]["held_out"]
    assert trainer.held_out(held_out) == pytest.approx(wanted, rel=1e-6)
    assert one.history[1]["held_out"] < one.history[0]["held_out"]


def test_batches_end_training_and_the_rate_ends_at_zero(cache, tmp_path):
    config = settings(batches=7)
    plan = training.plan_of(config, cache)
    assert plan.steps == 7
    assert fitted(config, cache, identity(WIDTH), tmp_path).steps == 7
    with pytest.raises(UserError, match="k 65 exceeds the 64 latents"):
        JointSAE(settings(k=65), WIDTH, identity(WIDTH))


def test_latents_are_dead_after_a_window_of_silence_in_both_models(cache):
    config = settings(dead_window=0.25, k=2, expansion=8)
    sae = JointSAE(config, WIDTH, maps.true(pairs_of(cache)))
    plan = training.plan_of(config, cache)
    trainer = training.Trainer(config, sae, TWINS, plan)
    assert trainer.dead_after == round(plan.tokens / 4)
    with torch.no_grad():
        sae.coders[0].weights["b_enc"][:64] -= 99.0
    silent = np.zeros(128, int)
    for step in range(6):
        batch = cache.batch(np.arange(16 * step, 16 * step + 16), True, "cpu")
        h = [batch.coded(m) for m in (0, 1)]
        fires = [sae.codes_of(x, m).dense().detach().numpy() for m, x in enumerate(h)]
        wanted = np.flatnonzero(silent >= trainer.dead_after)
        assert trainer.dead()[0] is None or np.array_equal(trainer.dead()[0], wanted)
        assert (trainer.dead()[0] is None) == (not len(wanted))
        terms = trainer.step(batch, step)
        assert ("aux" in terms) == bool(len(wanted))
        silent += len(h[0])
        silent[(fires[0] != 0).any(axis=0) | (fires[1] != 0).any(axis=0)] = 0
        assert np.array_equal(trainer.silent[0].numpy(), silent)
    assert (silent[:64] >= trainer.dead_after).all()
    off = training.Trainer(settings(lambda_aux=0.0), sae, TWINS, plan)
    off.silent += 10**6
    assert off.dead() == [None]


def test_training_refuses_a_patience_it_cannot_have(cache, held_out, tmp_path):
    config = settings(early_stopping_patience=3)
    with pytest.raises(UserError, match="early_stopping_patience 3 needs held-out"):
        fitted(config, cache, identity(WIDTH), tmp_path)
    with pytest.raises(UserError, match="early_stopping_patience None uses no held-out"):
        fitted(settings(), cache, identity(WIDTH), tmp_path, held_out)
    broken = dataclasses.replace(cache, next=(cache.next[0] * np.nan, cache.next[1]))
    with pytest.raises(TrainingDiverged, match="not finite at step"):
        fitted(settings(), broken, identity(WIDTH), tmp_path)
    assert not list(tmp_path.glob(".*resume"))


def test_half_precision_trains_as_well(cache, held_out, tmp_path):
    fvu = {}
    for precision in ("float32", "bf16-mixed"):
        config = settings(precision=precision, epochs=4)
        one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path)
        assert one.arrays["W_enc/0"].dtype == np.float32
        sae = model.of_arrays(config, one.arrays)
        found = behaviour(sae, TWINS, held_out)
        fvu[precision] = behaviour_rows(found, MEASURE, "t")["fvu"].value
    assert fvu["bf16-mixed"] == pytest.approx(fvu["float32"], rel=0.1)
    assert fvu["bf16-mixed"] != fvu["float32"]


def test_mixed_precision_compares_passes_of_one_precision(cache, monkeypatch):
    """Planted: an SAE that gives back what it reads. What is left of the losses above would be rounding."""
    config = settings(precision="bf16-mixed")
    sae = JointSAE(config, WIDTH, identity(WIDTH))
    monkeypatch.setattr(JointSAE, "_native", lambda self, y_nd, one, model: one.u_nd * one.scale_n1)
    trainer = training.Trainer(config, sae, TWINS, training.plan_of(config, cache))
    terms, _ = trainer.terms(cache.batch(np.arange(32), True, "cpu"), None, training=True)
    assert float(terms["ds"].detach()) < 1e-10
    assert float(terms["kl"].detach()) < 1e-7
    assert float(terms["local"].detach()) > 0.01


def test_a_gpu_is_told_to_give_the_same_bits(cache, tmp_path, monkeypatch):
    """Flags that can be set without one."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn

    def flags():
        return (
            torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark,
            cuda.math_sdp_enabled(), cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(),
        )  # fmt: skip

    before = flags()
    with training.reproducible("cuda"):
        assert flags() == (True, True, False, True, False, False)
    assert flags() == before
    inside, asked = [], []

    @contextlib.contextmanager
    def spied(device):
        inside.append(device)
        yield
        inside.clear()

    monkeypatch.setattr(training, "reproducible", spied)
    fitted(
        settings(batches=2), cache, identity(WIDTH), tmp_path,
        after_step=lambda step: asked.append(list(inside)),
    )  # fmt: skip
    assert asked == [["cpu"], ["cpu"]]


def test_mixed_precision_leaves_what_w_carries_exact(cache):
    sae = JointSAE(settings(precision="bf16-mixed"), WIDTH, maps.true(pairs_of(cache)))
    h = torch.from_numpy(pairs_of(cache, 5).b_nd)
    exact = sae.normalised(h, 1).u_nd
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sae.normalised(h, 1).u_nd, exact)
