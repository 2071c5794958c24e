"""SAEs: closed-form gradients against autograd, exact resume, and the SAELens folder."""

import json

import numpy as np
import pytest
import torch
from small_saes import (
    CONFIGS,
    SPEC,
    batchtopk_config,
    gated_config,
    jumprelu_config,
    reference_loss,
    relu_config,
    topk_config,
)

from crossseed.activations import BatchStream
from crossseed.errors import TrainingDiverged, UserError
from crossseed.resume import Resume
from crossseed.sae import architectures, dictionary, study, training
from crossseed.sae.architectures import topk
from crossseed.store import read_tensors


@pytest.mark.parametrize("make", CONFIGS)
@pytest.mark.parametrize("n_dead", [0, 7])
@pytest.mark.parametrize("block_rows", [1 << 30, 40])
def test_closed_form_gradients_equal_autograd(make, n_dead, block_rows, monkeypatch):
    monkeypatch.setattr(training, "BLOCK_ROWS", block_rows)
    torch.manual_seed(0)
    config, d, n = make(), 16, 48
    arrays = training.initial_arrays(d, n, False, "test")
    trainer = training.Trainer(config, arrays, "cpu")
    trainer.weights.b_enc.normal_(0, 0.1)
    trainer.weights.b_dec.normal_(0, 0.5)
    for value in trainer.weights.more.values():
        value.add_(0.1 * torch.randn_like(value))
    trainer.weights.silent_tokens[:n_dead] = config_dead(config)
    x = torch.randn(200, d)
    trainer.objective.gradients(trainer.weights, x, trainer.gradients)
    names = (*training.NAMES, *trainer.objective.trained)
    p = {
        k: t.clone().double().requires_grad_() for k, t in zip(names, trainer.trained, strict=True)
    }
    loss = reference_loss(config, p, x.double(), trainer.weights.silent_tokens)
    loss.backward()
    for name, gradient in zip(names, trainer.gradients.in_order(), strict=True):
        found = gradient.double()
        assert torch.allclose(found, p[name].grad, atol=1e-6, rtol=1e-4), name
    assert trainer.gradients.loss.item() == pytest.approx(loss.item(), rel=1e-5)


def config_dead(config):
    return getattr(config, "dead_after_tokens", 0) + 1


@pytest.fixture
def stream(tmp_path, write_activations, sparse_rows):
    path = write_activations(tmp_path / "a.h5", sparse_rows())
    return BatchStream(path, "origin:site", 200, "order")


def trained(config, stream, resume, after_step=lambda step: None, init=("i",)):
    return training.train(config, 3, stream, "cpu", resume, init, "cell", after_step)


@pytest.mark.parametrize("make", CONFIGS)
def test_resume_after_a_kill_is_bit_exact(make, stream, tmp_path, capsys):
    whole = trained(make(), stream, Resume(tmp_path / "x", {}))

    class Killed(Exception):
        pass

    resume = Resume(tmp_path / "y", {}, seconds=0)
    for step in (3, 11, 29):

        def stop(done, step=step):
            if done == step:
                raise Killed

        with pytest.raises(Killed):
            trained(make(), stream, resume, stop)
    again = trained(make(), stream, resume)
    assert "resuming at step 29" in capsys.readouterr().out
    for name, value in whole.items():
        assert np.array_equal(value, again[name]), name


@pytest.mark.parametrize("make", CONFIGS)
def test_decoder_rows_keep_unit_norm_and_training_explains(make, stream, tmp_path):
    config = make(steps=400, standardise=True, decay_steps=100)
    arrays = trained(config, stream, Resume(tmp_path / "x", {}))
    assert np.allclose(np.linalg.norm(arrays["W_dec"], axis=1), 1, atol=1e-5)
    found = dictionary.of_arrays(arrays, dictionary.cfg_of(config, 3, 16, "site"))
    x = stream._resident
    xhat = found.decode(found.encode(x))
    assert 1 - np.square(x - xhat).sum() / np.square(x - x.mean(axis=0)).sum() > 0.6


def started(config, n=48):
    """A trainer with biases and thresholds that are not as they start."""
    torch.manual_seed(1)
    trainer = training.Trainer(config, training.initial_arrays(16, n, False, 1), "cpu")
    for value in (trainer.weights.b_enc, *trainer.weights.more.values()):
        value.add_(0.1 * torch.rand_like(value))
    trainer.weights.b_dec.sub_(0.2)
    if "threshold" in trainer.weights.more:
        trainer.weights.more["threshold"].fill_(0.3)
    return trainer


@pytest.mark.parametrize("make", CONFIGS)
def test_standardising_is_folded_back_exactly(make, stream):
    config = make()
    trainer = started(config)
    arrays = trainer.arrays()
    mean, scale = stream.mean_and_scale
    cfg = dictionary.cfg_of(config, 3, 16, "site")
    inner = dictionary.of_arrays(arrays, cfg)
    outer = dictionary.of_arrays(
        training._unscaled(arrays, mean, scale, trainer.objective.in_units), cfg
    )
    x = stream._resident[:100].astype(np.float64)
    wanted = inner.decode(inner.encode((x - mean) / scale)) * scale + mean
    assert np.allclose(outer.decode(outer.encode(x)), wanted, atol=1e-4)


# Which latents are the largest does depend on norms.
@pytest.mark.parametrize("make", [relu_config, jumprelu_config, gated_config])
def test_a_decoder_of_unit_norm_computes_the_same(make, stream):
    """Dividing decoder rows by their norms changes nothing, thresholds and gates included."""
    config = make()
    trainer = started(config)
    cfg = dictionary.cfg_of(config, 3, 16, "site")
    norms = 0.5 + torch.rand(48)
    trainer.weights.W_dec.mul_(norms.unsqueeze(1))
    x = stream._resident[:100].astype(np.float64)
    before = dictionary.of_arrays(trainer.arrays(), cfg)
    trainer.weights.W_dec.div_(norms.unsqueeze(1))
    trainer.weights.W_enc.mul_(norms)
    trainer.weights.b_enc.mul_(norms)
    trainer.objective.rescale(trainer.weights, norms)
    after = dictionary.of_arrays(trainer.arrays(), cfg)
    if make is not topk_config:
        assert np.allclose(
            before.decode(before.encode(x)), after.decode(after.encode(x)), atol=1e-4
        )
    unit = np.linalg.norm(after.unit_decoder(), axis=1)
    assert np.allclose(unit, 1)


def test_batchtopk_keeps_k_on_average_with_its_threshold(stream, tmp_path):
    config = batchtopk_config(steps=600, standardise=True, decay_steps=100)
    arrays = trained(config, stream, Resume(tmp_path / "x", {}))
    cfg = dictionary.cfg_of(config, 3, 16, "site")
    assert cfg["architecture"] == "jumprelu"
    active = (dictionary.of_arrays(arrays, cfg).encode(stream._resident) > 0).sum(axis=1)
    assert active.mean() == pytest.approx(config.k, rel=0.2)
    assert active.std() > 0.3


def test_a_larger_penalty_leaves_fewer_latents(stream, tmp_path):
    for make, key, values in (
        (jumprelu_config, "l0", (1e-4, 3e-2)),
        (gated_config, "l1", (1e-3, 0.3)),
    ):
        found = []
        for value in values:
            config = make(**{key: value}, steps=400, standardise=True)
            arrays = trained(config, stream, Resume(tmp_path / f"{key}{value}", {}))
            made = dictionary.of_arrays(arrays, dictionary.cfg_of(config, 3, 16, "site"))
            found.append((made.encode(stream._resident) > 0).sum(axis=1).mean())
        assert found[1] < 0.8 * found[0], key


@pytest.mark.parametrize("make", CONFIGS)
def test_every_architecture_survives_its_folder(make, tmp_path):
    config = make()
    arrays = started(config).arrays()
    cfg = dictionary.cfg_of(config, 3, 16, "site")
    dictionary.save(tmp_path / "d", arrays, cfg, {"init": "seed1"}, {})
    again = dictionary.load(tmp_path / "d")
    x = np.random.default_rng(0).standard_normal((50, 16))
    assert np.array_equal(again.encode(x), dictionary.of_arrays(arrays, cfg).encode(x))
    kept = read_tensors(tmp_path / "d" / dictionary.WEIGHTS, dictionary.SCHEMA)[0]
    # SAELens takes these arrays and no others.
    assert set(kept) == {"W_enc", "W_dec", "b_dec", *dictionary.PER_LATENT[cfg["architecture"]]}


def test_equal_names_start_equal_and_others_do_not():
    one, same, other = (training.initial_arrays(8, 32, False, n) for n in ("a", "a", "b"))
    assert all(np.array_equal(one[k], same[k]) for k in one)
    assert not np.array_equal(one["W_enc"], other["W_enc"])
    assert not np.allclose(
        one["W_dec"], one["W_enc"].T / np.linalg.norm(one["W_enc"].T, axis=1)[:, None]
    )
    tied = training.initial_arrays(8, 32, True, "a")
    assert np.allclose(
        tied["W_dec"] * np.linalg.norm(tied["W_enc"], axis=0)[:, None], tied["W_enc"].T
    )


@pytest.mark.parametrize("n", [40, 1500])
def test_topk_keeps_the_k_largest_positive_in_numpy_and_torch(n):
    pre = np.random.default_rng(0).standard_normal((64, n)).astype(np.float32)
    pre[0] -= 10  # nothing positive in this row
    order = np.sort(pre, axis=1)[:, -5:]
    found = topk.activate(pre.copy(), {"k": 5}, {})
    assert np.array_equal(np.sort(found, axis=1)[:, -5:], np.maximum(order, 0))
    assert ((found > 0).sum(axis=1) == (order > 0).sum(axis=1)).all()
    assert np.array_equal(found, topk.activate_torch(torch.from_numpy(pre.copy()), 5).numpy())
    everything = topk.activate(pre.copy(), {"k": n}, {})
    assert np.array_equal(everything, np.maximum(pre, 0))


def test_auxk_revives_dead_latents(stream, tmp_path):
    def alive(aux):
        config = topk_config(
            aux_coefficient=aux, aux_k=16, steps=600, standardise=True, k=2, dead_after_tokens=2000
        )
        found = dictionary.Dictionary(
            **trained(config, stream, Resume(tmp_path / str(aux), {})),
            cfg=dictionary.cfg_of(config, 3, 16, "site"),
        )
        return (found.encode(stream._resident) > 0).any(axis=0).mean()

    assert alive(1.0) > alive(0.0)


def test_a_diverging_loss_stops_with_step_and_cell(stream, tmp_path):
    with pytest.raises(TrainingDiverged, match=r"cell: .*step \d+.*lower lr"):
        trained(relu_config(lr=1e30, warmup_steps=0), stream, Resume(tmp_path / "x", {}))


def run_study(folder, activations, inits=("shared", "independent"), **changed):
    config = relu_config(**changed).model_dump(exclude={"expansions", "inits", "members"})
    out = [folder / f"v-x3-{init}" for init in inits]
    study.train_and_measure({**SPEC, **changed, "variant": config} | {"variant": config},
                            activations, out, folder / "m.csv", "cpu", "code")  # fmt: skip
    return out


def test_folders_are_saelens_folders_and_load_back(tmp_path, write_activations, sparse_rows):
    path = write_activations(tmp_path / "site.h5", sparse_rows())
    shared, independent = run_study(tmp_path, path)
    cfg = json.loads((shared / "cfg.json").read_text())
    assert cfg["architecture"] == "standard"
    assert (cfg["d_in"], cfg["d_sae"], cfg["apply_b_dec_to_input"]) == (16, 48, True)
    assert cfg["metadata"]["crossseed"]["spec"]["init"] == "shared"
    one, other = dictionary.load(shared), dictionary.load(independent)
    assert one.W_enc.shape == (16, 48)
    assert not np.array_equal(one.W_enc, other.W_enc)
    assert not list(tmp_path.rglob("*.resume"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_edited_folders_are_refused(tmp_path, write_activations, sparse_rows):
    path = write_activations(tmp_path / "site.h5", sparse_rows())
    (folder,) = run_study(tmp_path, path, inits=("shared",))
    cfg = folder / "cfg.json"
    text = cfg.read_text()
    cfg.write_text(text.replace('"apply_b_dec_to_input": true', '"apply_b_dec_to_input": false'))
    with pytest.raises(UserError, match="does not belong"):
        dictionary.load(folder)
    cfg.write_text("{")
    with pytest.raises(UserError, match=r"cfg\.json"):
        dictionary.load(folder)


def test_init_shared_does_not_depend_on_the_member_and_independent_does():
    other = {**SPEC, "seed": 1}
    assert study.init_name(SPEC, "shared") == study.init_name(other, "shared")
    assert study.init_name(SPEC, "independent") != study.init_name(other, "independent")
    starts = {study.init_name(SPEC, init) for init in ("independent", "seed1", "seed2")}
    assert len(starts) == 3


def test_every_architecture_is_complete():
    assert {"relu_l1", "topk"} <= set(architectures.trained()) <= set(architectures.names())
    for name in architectures.names():
        module = architectures.module_of(name)
        assert hasattr(module, "activate"), name
        for offered in ("Config", "saelens_fields", "Objective"):
            assert hasattr(module, offered) == (name in architectures.trained()), (name, offered)
        if name in architectures.trained():
            assert module.Config.model_fields["architecture"].annotation.__args__ == (name,)
