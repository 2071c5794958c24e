"""Language models trained by the run: models, exact resume, configuration."""

import math
import re

import numpy as np
import pytest
import torch
from small_neox import (
    COHORT,
    STEPS,
    chain,
    changed,
    content,
    home,
    identity_of,
    quality,
    recipe_of,
    run_in,
    seed0,
    seed1,
    trained,
)

from crossseed.cohorts.base import FINAL
from crossseed.cohorts.neox import training
from crossseed.cohorts.neox.config import NAMES, TOKENIZER_NAMES, NeoxModel
from crossseed.cohorts.text.corpus import part_of
from crossseed.errors import TrainingDiverged, UserError
from crossseed.store import read_table

__all__ = ["chain", "home", "seed0", "seed1"]


# --- models -----------------------------------------------------------------------------


def fitted(ids, recipe, shape, seed=0):
    """A model after `recipe.steps` steps on a text of ids."""
    model = training.make_model(seed, shape, recipe.context, 0)
    stepper = training.Stepper(model, recipe, "cpu")
    for step, batch in enumerate(training.training_batches(seed, ids, recipe, 0)):
        stepper(batch, training.learning_rate(step, recipe))
    return model


SHAPE = NeoxModel(width=32, layers=2, heads=2, mlp_width=64, vocabulary=258)


def test_a_trained_model_approaches_the_entropy_rate_of_the_chain(chain):
    recipe = recipe_of(steps=150, batch_rows=16, context=32, peak_lr=1e-2, warmup_steps=10)
    ids, rows = chain.sample(0, 20_000), chain.sample(1, 6_400).reshape(200, 32)
    known = training.baselines(ids, rows, 258)
    untrained = training.make_model(0, SHAPE, 32, 0)
    assert training.held_out_loss(untrained, rows, "cpu") == pytest.approx(math.log(258), abs=0.1)
    loss = training.held_out_loss(fitted(ids, recipe, SHAPE), rows, "cpu")
    assert loss < known["unigram_loss_nats"] - 0.4
    assert known["bigram_loss_nats"] - 0.03 < loss < chain.entropy_rate + 0.15


def test_a_trained_model_beats_both_baselines_where_longer_memory_helps():
    """Most tokens repeat the one before the last: counts of pairs know nothing of that."""
    n, kept = 8, 0.9

    def text(seed, length):
        rng = np.random.default_rng(seed)
        ids = rng.integers(n, size=length).astype(np.int32)
        repeat = rng.random(length) < kept
        for i in range(2, length):
            if repeat[i]:
                ids[i] = ids[i - 2]
        return ids

    recipe = recipe_of(steps=150, batch_rows=16, context=32, peak_lr=1e-2, warmup_steps=10)
    ids, rows = text(0, 20_000), text(1, 6_400).reshape(200, 32)
    same = kept + (1 - kept) / n
    entropy_rate = -same * math.log(same) - (1 - same) * math.log((1 - kept) / n)
    known = training.baselines(ids, rows, 258)
    loss = training.held_out_loss(fitted(ids, recipe, SHAPE), rows, "cpu")
    assert known["bigram_loss_nats"] == pytest.approx(math.log(n), abs=0.05)
    assert loss < known["bigram_loss_nats"] - 1
    # Nothing is known of the first two tokens of a row, of which one is scored.
    assert loss > entropy_rate


def test_initial_weights_depend_on_seed_and_shape_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = training.make_model(3, SHAPE, 32, 0).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again = training.make_model(3, SHAPE, 32, 0).state_dict()
    other = training.make_model(4, SHAPE, 32, 0).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    matrices = [name for name, value in one.items() if value.dim() == 2]
    assert len(matrices) == 2 + 4 * SHAPE.layers
    assert not any(torch.equal(one[name], other[name]) for name in matrices)


def test_the_estimated_parameters_are_those_of_the_matrices(home):
    run = run_in(home)
    shape = run.cohorts[COHORT].model
    state = dict(training.make_model(0, shape, 24, 0).named_parameters())
    matrices = sum(value.numel() for value in state.values() if value.dim() == 2)
    assert run.cohorts[COHORT].parameters == matrices


# --- training and resuming --------------------------------------------------------------


def test_one_seed_twice_is_equal_bytes_and_two_seeds_differ(home, seed0, seed1, tmp_path):
    assert set(seed0) == {
        *(f"{c}/{name}" for c in ("step0", "step10", FINAL) for name in NAMES),
        "training.csv",
        "quality.csv",
    }
    assert trained(home, tmp_path) == seed0
    for checkpoint in ("step0", "step10", FINAL):
        name = f"{checkpoint}/model.safetensors"
        assert seed0[name] != seed1[name]
        for same in TOKENIZER_NAMES:
            assert seed0[f"{checkpoint}/{same}"] == (home / "tokenizer" / same).read_bytes()
    assert len({seed0[f"{c}/model.safetensors"] for c in ("step0", "step10", FINAL)}) == 3
    assert seed0["training.csv"] != seed1["training.csv"]


class Killed(Exception):
    pass


@pytest.fixture
def interrupted(home, monkeypatch):
    """Trains, saving the state every `every` steps, until killed when `kill` steps are done."""

    class Often(training.Resume):
        calls, every = 0, 1

        def due(self):
            Often.calls += 1
            return Often.calls % Often.every == 0

    def run(out, kill, every=1, **options):
        Often.calls, Often.every = 0, every
        with monkeypatch.context() as patch:
            patch.setattr(training, "Resume", Often)
            original = training.learning_rate
            patch.setattr(
                training,
                "learning_rate",
                lambda step, recipe: _kill() if step == kill else original(step, recipe),
            )
            with pytest.raises(Killed):
                trained(home, out, **options)

    return run


def _kill():
    raise Killed


def test_resume_after_a_kill_is_bit_exact(home, seed0, interrupted, tmp_path, capsys):
    # At a kept step, before and after a row of the curve, between two saves.
    for kill, every, start in ((10, 1, 10), (27, 7, 24), (50, 1, 50), (59, 4, 58)):
        capsys.readouterr()
        interrupted(tmp_path, kill, every)
        assert list(content(tmp_path)) == [".training.csv.resume"]
        state = training.Resume(tmp_path / "training.csv", identity_of(home)).load()
        assert state is not None
        assert state[1]["step"] == start
    assert "resuming at step 50" in capsys.readouterr().out
    assert trained(home, tmp_path) == seed0
    assert "resuming at step 58" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other", [{"code": "edited"}, {"training__peak_lr": 1e-3}, {"seed": 1}], ids=str
)
def test_state_of_other_code_or_another_spec_is_not_resumed(
    home, seed0, interrupted, tmp_path, capsys, other
):
    interrupted(tmp_path, 12, **other)
    assert trained(home, tmp_path) == seed0
    assert "saved by another spec or code, starting over" in capsys.readouterr().out


def test_a_damaged_state_is_not_resumed(home, seed0, interrupted, tmp_path, capsys):
    interrupted(tmp_path, 12)
    path = tmp_path / ".training.csv.resume"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert trained(home, tmp_path) == seed0
    assert "saved state is not usable, starting over" in capsys.readouterr().out


def test_state_of_another_text_is_not_resumed(home, seed0, interrupted, tmp_path, capsys):
    """The spec names the corpus; what it holds may have changed since."""
    interrupted(tmp_path, 12)
    added = home / "corpus" / "zzz.txt"
    text = next(
        text
        for n in range(100)
        if part_of(text := f"New document {n}. " + "ban ces dir " * 30, 0) < 0.5
    )
    added.write_text(text)
    try:
        other = trained(home, tmp_path)
    finally:
        added.unlink()
    assert "starting over" in capsys.readouterr().out
    assert other["final/model.safetensors"] != seed0["final/model.safetensors"]


def test_a_diverging_loss_stops_with_step_and_cell(home, tmp_path):
    wild = {"training__peak_lr": 1e30, "training__warmup_steps": 0, "training__grad_clip": 1e30}
    with pytest.raises(TrainingDiverged, match=r"smoke-neox seed 0.*step \d+.*peak_lr"):
        trained(home, tmp_path, **wild)
    assert not content(tmp_path)


def test_losses_and_baselines_are_logged(home, seed0):
    found = quality(home)
    assert {step for step, _ in found} == {10, 20, 30, 40, 50, 60}
    at_end = {measure for step, measure in found if step == STEPS}
    assert at_end == {"loss_nats", "unigram_loss_nats", "bigram_loss_nats"}
    assert found[STEPS, "loss_nats"] < found[10, "loss_nats"] < math.log(320) + 0.1
    curve = read_table(home / "seed0" / "training.csv", training.CURVE_COLUMNS)
    # Every 50 steps, and at the end; each the mean since the one before.
    assert [int(row["step"]) for row in curve] == [50, STEPS]
    first, last = (float(row["loss_nats"]) for row in curve)
    assert found[50, "loss_nats"] < first < math.log(320) + 0.1
    assert last == pytest.approx(found[STEPS, "loss_nats"], abs=0.1)


# --- configuration ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"model__heads": 3}, "width 16 over 3 heads"),
        ({"model__heads": 4}, "width 16 over 4 heads gives no head size that 8 divides"),
        ({"model__vocabulary": 257}, "greater than 257"),
        ({"tokens__context": 25}, "tokens.context 25 exceeds training.context 24"),
        ({"checkpoints": ["step20"]}, "'step20' is not kept; add 20 to training.keep_steps"),
        ({"training__corpus_share": 1.0}, "less than 1"),
        ({"training__keep_steps": [61]}, "keep_steps [61] lie beyond the last step 60"),
        ({"sites": ["blocks.2.hook_resid_post"]}, "blocks.2.hook_resid_post"),
        ({"sites": ["blocks.0.hook_resid_mid"]}, "blocks.0.hook_resid_mid"),
    ],
)
def test_what_cannot_be_trained_is_told(keys, said):
    with pytest.raises(UserError, match=re.escape(said)):
        changed(**keys)


def test_the_training_recipe_reaches_the_optimiser():
    """Weight decay and warm-up: the first step has rate 0, so it changes nothing."""
    recipe = recipe_of(warmup_steps=5)
    model = training.make_model(0, SHAPE, 24, 0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    stepper = training.Stepper(model, recipe, "cpu")
    batch = next(training.training_batches(0, np.arange(3000, dtype=np.int32) % 258, recipe, 0))
    stepper(batch, training.learning_rate(0, recipe))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    stepper(batch, training.learning_rate(1, recipe))
    assert not torch.equal(model.lm_head.weight, before["lm_head.weight"])
