"""The toy model and its trainer: counted parameters, causality, exact resume, frozen tensors."""

import math

import numpy as np
import pytest
import torch

from crossseed.cohorts.dyck import sites, task, training
from crossseed.cohorts.dyck.config import Training
from crossseed.cohorts.dyck.model import N_PARAMETERS, DyckTransformer
from crossseed.errors import TrainingDiverged, UserError
from crossseed.resume import Resume

RECIPE = {
    "steps": 24,
    "batch_rows": 8,
    "pool_rows": 40,
    "lengths": [2, 20],
    "short_first_steps": 10,
    "peak_lr": 3e-3,
    "warmup_steps": 5,
    "final_lr_fraction": 0.02,
    "weight_decay": 1e-4,
    "grad_clip": 1.0,
    "precision": "float32",
    "keep_steps": [7],
    "eval_every_steps": 10,
    "eval_rows": 32,
    "stop": None,
}


def recipe(**changed):
    return Training.model_validate({**RECIPE, **changed})


class Killed(Exception):
    pass


def kill_at(step):
    def after_step(done):
        if done == step:
            raise Killed

    return after_step


def test_parameter_count_is_the_published_one():
    assert sum(p.numel() for p in DyckTransformer(0).parameters()) == N_PARAMETERS == 104_448


def test_positional_table_has_the_published_columns():
    table = DyckTransformer(0).W_pos.double()
    pos = torch.arange(64, dtype=torch.float64)
    angle = 2 * math.pi * pos / 64
    columns = [pos / 64, 1 / (pos + 1), torch.log(pos + 1) / math.log(64), (pos == 0).double()]
    expected = torch.stack([*columns, torch.cos(angle), torch.sin(angle)], dim=1)
    assert torch.allclose(table[:, :6], expected, atol=1e-6)
    assert not table[:, 6:].any()


def forward_by_hand(model, tokens):
    """The forward pass of the published model, head by head, in float64 NumPy."""
    w = {k: v.double().numpy() for k, v in model.state_dict().items()}
    found = {}

    def norm(x, gain):
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * gain

    x = w["W_E"][tokens] + w["W_pos"][: len(tokens)]
    found[sites.FIRST] = x
    for layer in range(2):
        p = f"blocks.{layer}."
        y = norm(x, w[p + "ln1.gain"])
        out = 0
        for h in range(4):
            q, k, v = (y @ w[f"{p}attn.W_{name}"][h].T for name in "QKV")
            scores = q @ k.T / 4
            scores[np.triu_indices(len(tokens), 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            out = out + weights @ v @ w[p + "attn.W_O"][h].T
        x = x + out
        found[sites.mid(layer)] = x
        y = norm(x, w[p + "ln2.gain"])
        x = x + np.maximum(y @ w[p + "mlp.W_in"].T, 0) @ w[p + "mlp.W_out"].T
        found[sites.post(layer)] = x
    final = norm(x, w["ln_f.gain"])
    return found, [final @ w[f"W_U_{head}"].T for head in task.HEADS]


def test_activations_and_logits_equal_a_forward_pass_by_hand():
    model = DyckTransformer(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # larger than at initialisation, so that attention is not uniform
    tokens = task.sample_train(np.random.default_rng(0), 1, (40, 40))[0, :42]
    by_hand, logits = forward_by_hand(model, tokens)
    with torch.no_grad():
        found = model.residuals(torch.from_numpy(tokens[None]).long(), set(sites.SITES))
        out = model(torch.from_numpy(tokens[None]).long())
    assert set(found) == set(sites.SITES) == set(by_hand)
    for site, expected in by_hand.items():
        assert np.allclose(found[site][0].numpy(), expected, atol=1e-5, rtol=1e-5), site
    for head, expected in zip(out, logits, strict=True):
        assert np.allclose(head[0].numpy(), expected, atol=1e-4, rtol=1e-4)


def test_unknown_site_is_named():
    with pytest.raises(ValueError, match=r"blocks\.9"):
        DyckTransformer(0).residuals(torch.ones(1, 4, dtype=torch.long), {"blocks.9.hook_x"})


def test_batches_are_a_function_of_the_step():
    whole = list(training.training_batches(0, recipe(), 0))
    assert len(whole) == 24
    for start in (3, 5, 12, 23):
        rest = list(training.training_batches(0, recipe(), start))
        assert len(rest) == 24 - start
        for one, other in zip(whole[start:], rest, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_batches_are_trimmed_and_weigh_tokens_equally():
    batches = list(training.training_batches(0, recipe(steps=500, short_first_steps=0), 0))
    for batch in batches:
        assert (batch.tokens != task.PAD).any(axis=0).all()
    weights = np.array([b.weight for b in batches])
    tokens = np.array([(b.tokens != task.PAD).sum() for b in batches])
    assert abs(weights.mean() - 1) < 1e-6
    assert np.corrcoef(weights, tokens)[0, 1] > 0.95


def test_short_sequences_come_first_when_asked():
    batches = list(training.training_batches(0, recipe(short_first_steps=20), 0))
    longest = [b.tokens.shape[1] - 2 for b in batches]
    assert max(longest[:5]) < 10
    assert max(longest[20:]) > 14


def test_resume_after_a_kill_is_bit_exact(tmp_path, capsys):
    whole = training.train_model(1, recipe(), {}, "cpu", Resume(tmp_path / "a", {}))
    resume = Resume(tmp_path / "b", {"spec": 1}, seconds=0)
    for step in (4, 9, 15, 22):
        with pytest.raises(Killed):
            training.train_model(1, recipe(), {}, "cpu", resume, kill_at(step))
    again = training.train_model(1, recipe(), {}, "cpu", resume)
    said = capsys.readouterr().out
    assert [f"resuming at step {step}" in said for step in (4, 9, 15, 22)] == [True] * 4
    assert set(whole.checkpoints) == {"step7", "final"}
    for name, state in whole.checkpoints.items():
        for tensor, value in state.items():
            assert np.array_equal(value, again.checkpoints[name][tensor]), (name, tensor)
    assert whole.quality == again.quality
    assert whole.curve == again.curve


def test_state_of_another_spec_is_not_resumed(tmp_path, capsys):
    with pytest.raises(Killed):
        training.train_model(
            1, recipe(), {}, "cpu", Resume(tmp_path / "a", {"spec": 1}, seconds=0), kill_at(5)
        )
    assert Resume(tmp_path / "a", {"spec": 2}).load() is None
    assert "starting over" in capsys.readouterr().out
    assert Resume(tmp_path / "a", {"spec": 1}).load() is not None


def test_shared_tensors_are_copied_and_stay_frozen(tmp_path):
    value = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    found = training.train_model(2, recipe(), {"W_E": value}, "cpu", Resume(tmp_path / "a", {}))
    final = found.checkpoints["final"]
    assert np.array_equal(final["W_E"], value)
    assert not np.array_equal(final["W_U_tok"], found.checkpoints["step7"]["W_U_tok"])


def test_shared_tensor_of_another_shape_is_refused(tmp_path):
    with pytest.raises(UserError, match="W_E"):
        training.train_model(
            2, recipe(), {"W_E": np.zeros((3, 3), np.float32)}, "cpu", Resume(tmp_path / "a", {})
        )


def test_a_diverging_loss_stops_with_step_and_cell(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"c seed 5.*step \d+.*peak_lr"):
        training.train_model(
            5,
            recipe(peak_lr=1e30, warmup_steps=0, grad_clip=1e30),
            {},
            "cpu",
            Resume(tmp_path / "a", {}),
            cell="c seed 5",
        )


def test_early_stop_waits_for_patience_and_kept_steps(tmp_path):
    at_once = {"accuracy": 0.0, "patience_steps": 0}
    found = training.train_model(
        1,
        recipe(stop=at_once, eval_every_steps=5, keep_steps=[12]),
        {},
        "cpu",
        Resume(tmp_path / "a", {}),
    )
    assert max(row["step"] for row in found.quality) == 15
    assert set(found.checkpoints) == {"step12", "final"}


def test_quality_rows_cover_every_distribution_and_head():
    rows = training.evaluate(DyckTransformer(0), 64, (2, 20), seed=0)
    assert {(r["distribution"], r["measure"]) for r in rows} == {
        (d, f"accuracy_{h}") for d in task.DISTRIBUTIONS for h in task.HEADS
    }
    assert all(0 <= r["value"] <= 1 for r in rows)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_captured_steps_follow_the_same_trajectory_as_the_cpu(tmp_path):
    cpu = training.train_model(1, recipe(), {}, "cpu", Resume(tmp_path / "a", {}))
    gpu = training.train_model(1, recipe(), {}, "cuda", Resume(tmp_path / "b", {}))
    for name, value in cpu.checkpoints["final"].items():
        assert np.allclose(value, gpu.checkpoints["final"][name], atol=2e-3), name
