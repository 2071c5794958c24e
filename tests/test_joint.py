"""Joint SAEs of two models: a planted rotation is what it takes to share latents, every kind trains, and a killed
training ends as if it had not been."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from joint_toy import (
    MEASURE,
    TURN,
    TWINS,
    WIDTH,
    Toy,
    cache,
    cache_of,
    fitted,
    held_out,
    independent,
    pairs_of,
    settings,
    sparse_states,
    trained,
)

from crossseed.alignment.maps import identity
from crossseed.errors import TrainingDiverged, UserError
from crossseed.joint import losses, maps, model, training
from crossseed.joint.behaviour import behaviour, behaviour_rows, side_by_side
from crossseed.joint.model import JointSAE
from crossseed.joint.sides import (
    condition_sides,
    correlations,
    joint_sides,
    matched,
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


# The others


def test_kinds_share_one_encoder_and_decoder(cache):
    """Every kind reconstructs both models, and natively: back through W, with the norm undone."""
    for kind in ("joint", "mutual", "crosscoder", "universal"):
        config = settings(kind=kind, lambda_cross=float(kind == "joint"), init="distinct")
        sae = JointSAE(config, WIDTH, maps.true(pairs_of(cache)))
        assert len(sae.coders) == (1 if kind in ("joint", "crosscoder") else 2)
        h = [torch.from_numpy(x) for x in pairs_of(cache, 20)[:2]]
        passed = sae(h, training=kind == "crosscoder")
        for m, (error, native) in enumerate(zip(passed.error, passed.native, strict=True)):
            turn = torch.from_numpy(TURN).float() if m else torch.eye(WIDTH)
            assert torch.allclose((native - h[m]) @ turn, error, atol=1e-4)
        if kind in ("mutual", "universal"):
            first, second = (coder.arrays()["W_enc"] for coder in sae.coders)
            assert not np.array_equal(first, second)
    with pytest.raises(UserError, match="takes one model, not 2"):
        JointSAE(settings(kind="independent", lambda_cross=0.0), WIDTH, identity(WIDTH))
    with pytest.raises(UserError, match="takes two models, not 1"):
        JointSAE(settings(), WIDTH, identity(WIDTH), models=(0,))
    with pytest.raises(UserError, match="fit it at the same site"):
        JointSAE(settings(), WIDTH, identity(8))


def test_crosscoders_keep_k_on_average_and_use_a_threshold(cache, held_out, tmp_path):
    config = settings(kind="crosscoder", lambda_cross=0.0)
    carried = maps.true(pairs_of(cache))
    one = fitted(config, cache, carried, tmp_path)
    sae = model.of_arrays(config, one.arrays)
    rows = behaviour_rows(behaviour(sae, TWINS, held_out), MEASURE, "t")
    assert 0.6 * config.k < rows["l0"].value < 1.6 * config.k
    assert rows["fvu"].value < 0.5
    # Concatenated decoder columns have length 1, so that models share it.
    norms = np.linalg.norm(np.split(sae.coders[0].decoder().detach().numpy(), 2, axis=1), axis=2)
    assert np.allclose(np.square(norms).sum(axis=0), 1, atol=1e-5)
    # Encoded from one model alone, latents that were learnt on both agree a little, which chance does not.
    found = universality(joint_sides(sae), held_out, MEASURE, "t")
    assert found.measured["mean_r"].estimate.low > 0.05
    assert abs(found.measured["mean_r"].null) < 0.02


def test_mutual_regularisation_draws_decoders_together(cache, tmp_path):
    ends = {}
    for weight in (0.0, 3.0):
        config = settings(
            kind="mutual", lambda_cross=0.0, lambda_mutual=weight, init="distinct", epochs=5
        )
        one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path)
        sae = model.of_arrays(config, one.arrays)
        rows = [torch.from_numpy(sae.decoder_of(m)) for m in (0, 1)]
        ends[weight] = float(losses.mutual(*rows))
    assert ends[3.0] < 0.5 * ends[0.0]


def test_universal_saes_decode_each_model_from_either_code(cache, held_out, tmp_path):
    """Without W: its own encoder and decoder of each model find what the rotation would."""
    config = settings(kind="universal", lambda_cross=0.0, init="distinct", epochs=24, lr=1e-2)
    one = fitted(config, cache, identity(WIDTH), tmp_path)
    sae = model.of_arrays(config, one.arrays)
    found = universality(joint_sides(sae), held_out, MEASURE, "t")
    assert found.measured["universal_share"].estimate.value > 0.5
    assert found.measured["universal_share"].null < 0.05


def test_independent_saes_agree_after_matching_or_transfer_alone(independent, cache, held_out):
    a, b = independent
    carried = maps.true(pairs_of(cache))

    def share(condition, pairing=None, pooled=False, null=False):
        sides = condition_sides(condition, a, b, carried)
        found = universality(
            sides, held_out, MEASURE, "t", pairing=pairing, pooled=pooled
        ).measured["universal_share"]
        return found.null if null else found.estimate.value

    def pairing(condition, on):
        sides = condition_sides(condition, a, b, carried)
        return matched(correlations(sides, on))

    by_index = share("1")
    by_matching = share("2", pairing("2", cache))
    assert by_index < 0.1
    assert by_matching > by_index + 0.2
    # What is matched to other tokens is no match, on those that are scored neither.
    assert share("2", pairing("2", cache)._replace(partner=pairing("2", cache).null)) < 0.1
    assert share("2", pairing("2", held_out), null=True) < 0.1
    # A's SAE encodes what the planted W carries over exactly as it encodes A.
    assert share("3'") > 0.99
    # B's SAE has never seen what the third condition shows it.
    assert share("3", pairing("3", cache)) < by_matching
    assert 0 <= share("2", pairing("2", cache), pooled=True) <= 1
    with pytest.raises(UserError, match="condition 5 has no independent SAEs"):
        condition_sides("5", a, b, carried)
    both = side_by_side(*(behaviour(one, TWINS, held_out) for one in independent))
    assert both.kl_em.shape == (len(held_out), 2)
    assert behaviour_rows(both, MEASURE, "t")["fvu"].value < 0.4


def test_unrelated_models_share_nothing_whatever_w(tmp_path):
    """A null: B's states have nothing to do with A's."""
    (h_a, mask), (h_b, _) = sparse_states(seed=10), sparse_states(seed=20, pool=5)
    uppers = Toy(), Toy(3)
    cache = cache_of((h_a, h_b), mask, uppers)
    carried = maps.true(cache.pairs(np.arange(200)))
    one = fitted(settings(), cache, carried, tmp_path, uppers=uppers)
    sae = model.of_arrays(settings(), one.arrays)
    found = universality(joint_sides(sae), cache, MEASURE, "t")
    assert found.measured["universal"].estimate.value == 0
    assert found.measured["active"].estimate.value > 20
    live = found.active_f
    assert abs(found.r_f[live].mean()) < 0.06
    # Shifts leave the spread of chance correlations as it is.
    assert found.null_r_sf[:, live].std() == pytest.approx(found.r_f[live].std(), abs=0.05)


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
