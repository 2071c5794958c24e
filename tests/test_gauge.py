"""The symmetry group of the toy's weights, and the search over it: planted elements are found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossseed.alignment.moments import Moments
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.dyck.training import loss_of
from crossseed.errors import UserError
from crossseed.gauge import element as e
from crossseed.gauge import joint, search
from crossseed.gauge.weights import Weights, errors, folded
from crossseed.published import alignment as published
from crossseed.published import joint as published_joint

# A model as it might be trained: other gains, tensors of other sizes.
SCALES = {"W_E": 30.0, "W_U": 20.0, "attn": 10.0, "mlp": 6.0}


def state_of(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for name, value in DyckTransformer(seed).state_dict().items():
        array = value.numpy().astype(np.float64)
        if name.endswith("gain"):
            array = array * np.exp(rng.normal(0, 0.3, array.shape))
        scale = next((s for part, s in SCALES.items() if part in name), 1.0)
        found[name] = array * scale
    return found


def model_of(seed: int, used: slice = dyck.USED) -> Weights:
    return dyck.from_state(folded(state_of(seed), dyck.gains(), "a test"), used)


MODEL = model_of(3)
TOKENS = torch.from_numpy(task.sample_train(np.random.default_rng(0), 16, (2, 48))).long()


def predicted(state: dict[str, np.ndarray]) -> list[torch.Tensor]:
    """Log-probabilities: what a shift of the unembedding leaves alone."""
    model = DyckTransformer(0).double()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    with torch.no_grad():
        # After the last token nothing is scored, and what is read there is free.
        return [logits.log_softmax(-1)[TOKENS != task.PAD] for logits in model(TOKENS)]


def test_folding_leaves_the_function_alone():
    state = state_of(3)
    ours = predicted(folded(state, dyck.gains(), "a test"))
    for before, after in zip(predicted(state), ours, strict=True):
        assert (before - after).abs().max() < 1e-5


@pytest.mark.parametrize("general", [True, False])
@pytest.mark.parametrize("moves", [*((name,) for name in e.MOVES), e.MOVES])
def test_every_move_leaves_the_function_alone_and_can_be_undone(moves, general):
    rng = np.random.default_rng(1)
    g = e.random(rng, MODEL, moves, general)
    moved = e.apply(g, MODEL)
    # Heads and neurons in another order, or rows turned: it is another point of weight space.
    assert errors(moved, MODEL)["all"] > 0.1
    before, after = (predicted(dyck.to_state(w)) for w in (MODEL, moved))
    for one, other in zip(before, after, strict=True):
        assert (one - other).abs().max() < 1e-5
    assert errors(e.apply(e.inverse(g), moved), MODEL)["all"] < 1e-12


def test_elements_compose_as_a_group():
    rng = np.random.default_rng(2)
    f, g, h = (e.random(rng, MODEL) for _ in range(3))
    twice = e.apply(h, e.apply(g, MODEL))
    assert errors(e.apply(e.compose(h, g), MODEL), twice)["all"] < 1e-12
    left, right = e.compose(h, e.compose(g, f)), e.compose(e.compose(h, g), f)
    for one, other in zip(left, right, strict=True):
        assert np.allclose(one, other, atol=1e-12)
    for one, other in zip(e.compose(e.inverse(g), g), e.identity(MODEL), strict=True):
        assert np.allclose(one, other, atol=1e-12)


def test_a_balanced_model_is_balanced_and_the_least_of_its_copies():
    moved = e.apply(e.canonical(MODEL), MODEL)
    for left, right in ((moved.query, moved.key), (moved.value, moved.output)):
        ours, theirs = (w @ np.swapaxes(w, -1, -2) for w in (left, right))
        assert np.allclose(ours, theirs)
        assert np.allclose(ours, ours * np.eye(ours.shape[-1]))
    assert np.allclose(np.linalg.norm(moved.reads, axis=-1), np.linalg.norm(moved.writes, axis=-1))
    assert np.allclose(moved.positions.mean(axis=0), 0)
    assert np.allclose(moved.unembedding[:40].mean(axis=0), 0)
    size = sum(np.square(x).sum() for x in moved.arrays().values())
    rng = np.random.default_rng(3)
    for _ in range(20):
        other = e.apply(
            e.random(rng, MODEL, ("query_key", "value_output", "scale", "unembedding")), MODEL
        )
        other = other._replace(positions=moved.positions, embedding=moved.embedding)
        assert sum(np.square(x).sum() for x in other.arrays().values()) > size


def test_relative_errors_do_not_depend_on_the_gauge():
    rng = np.random.default_rng(4)
    found = search.balanced_errors(e.apply(e.random(rng, MODEL), MODEL), MODEL)
    g = e.random(rng, MODEL, ("query_key", "value_output", "scale", "unembedding", "embedding"))
    other = model_of(5)
    # Canonical up to signs of heads, which the search takes care of.
    one = search.align(np.random.default_rng(0), other, MODEL, 4, 4)
    two = search.align(np.random.default_rng(0), e.apply(g, other), e.apply(g, MODEL), 4, 4)
    assert one.objective[0] == pytest.approx(two.objective[0], rel=1e-9)
    assert found["all"] > 0.1


def test_the_zero_predictor_has_an_error_of_one():
    for name, value in search.balanced_errors(MODEL.map(np.zeros_like), MODEL).items():
        # In the balanced gauge shifts of the reference are taken from zero too.
        if name not in ("all", "embedding", "positions", "unembedding"):
            assert value == pytest.approx(1.0)


@pytest.mark.parametrize("moves", [*((name,) for name in e.MOVES), e.MOVES])
def test_each_planted_move_is_found_again(moves):
    rng = np.random.default_rng(5)
    found = search.align(rng, e.apply(e.random(rng, MODEL, moves), MODEL), MODEL, 2, 4)
    assert errors(found.moved, MODEL)["all"] < 1e-8
    assert found.converged


@pytest.mark.slow
def test_planted_compositions_are_found_again():
    recovered = 0
    for number in range(100):
        rng = np.random.default_rng(1000 + number)
        model = model_of(number % 7)
        planted = e.random(rng, model)
        found = search.align(rng, e.apply(planted, model), model, 2, 6)
        recovered += errors(found.moved, model)["all"] < 1e-8
        exact = errors(found.moved, model)["all"] < 1e-8
        # The element found undoes the planted one, or the search says that it did not end.
        undone = e.compose(found.element, planted)
        assert np.allclose(undone.residual, np.eye(model.width), atol=1e-6) or not found.converged
        assert exact or not found.converged
    assert recovered >= 95


@pytest.fixture(scope="module")
def trained() -> Weights:
    """A model after some training: gains, and tensors of low effective rank, as training leaves them."""
    model = DyckTransformer(4)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    rng = np.random.default_rng(15)
    for _ in range(120):
        tokens = task.sample_train(rng, 32, (2, 30))[:, :32]
        labels = task.label(tokens)
        targets = (torch.from_numpy(x).long() for x in (tokens, labels.depth_nt, labels.valid_nt))
        loss = loss_of(model, *targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    state = {k: v.numpy().astype(np.float64) for k, v in model.state_dict().items()}
    return dyck.from_state(folded(state, dyck.gains(), "a test"))


def test_a_planted_element_of_a_trained_model_is_found_again(trained):
    rng = np.random.default_rng(16)
    assert errors(trained, model_of(4))["all"] > 0.1
    found = search.align(rng, e.apply(e.random(rng, trained), trained), trained, 2, 6)
    assert errors(found.moved, trained)["all"] < 1e-8
    assert found.converged


def test_a_head_of_low_rank_is_counted_and_its_copy_found(trained):
    """Where a head has no balanced basis the copy is told by its function, and the table counts such heads."""
    query = trained.query.copy()
    query[1, 2, 6:] = 0
    model = trained._replace(query=query)
    assert e.unbalanced(model) > e.unbalanced(trained)
    rng = np.random.default_rng(17)
    moved = e.apply(e.random(rng, model, general=False), model)
    found = search.align(rng, moved, model, 2, 6)
    assert search.balanced_errors(found.moved, model)["all"] < 1e-6


def test_a_planted_element_is_found_through_noise():
    rng = np.random.default_rng(6)
    planted = e.random(rng, MODEL, general=False)
    noisy = e.apply(planted, MODEL).map(
        lambda x: x + 0.05 * np.sqrt(np.square(x).mean()) * rng.standard_normal(x.shape)
    )
    found = search.align(rng, noisy, MODEL, 4, 6)
    assert search.balanced_errors(found.moved, MODEL)["all"] < 0.15
    back = e.compose(found.element, planted)
    assert (back.heads == e.identity(MODEL).heads).all()
    assert (back.neurons == e.identity(MODEL).neurons).mean() > 0.99


def test_an_unrelated_model_is_no_closer_than_chance():
    """Of two models from independent draws nothing is found but what any search over so many elements finds."""
    rng = np.random.default_rng(7)
    found = search.align(rng, model_of(11), MODEL, 4, 6)
    assert found.moved.positions.shape == MODEL.positions.shape
    by_tensor = search.balanced_errors(found.moved, MODEL)
    assert all(by_tensor[f"{layer}.query"] > 0.8 for layer in (0, 1))


def test_a_search_that_was_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(search, "MOST_SWEEPS", 2)
    found = search.align(np.random.default_rng(8), model_of(11), MODEL, 2, 2)
    assert not found.converged
    assert found.sweeps == 2


def test_sweeps_never_raise_the_objective():
    a = e.apply(e.canonical(model_of(11)), model_of(11))
    b = e.apply(e.canonical(MODEL), MODEL)
    begun = search.starts(np.random.default_rng(9), a, b, 4)
    state = search._Sweeps(a, b, begun)
    state.sweep()
    for _ in range(5):
        before = state.objective
        state.sweep()
        assert (state.objective <= before + 1e-9).all()


def test_the_published_rotation_turns_the_wrong_way():
    """Planted: a rotated copy. The published residual step leaves it as far away as before; its transpose
    undoes it (critique of the study, P1)."""
    model = model_of(3, used=dyck.ALL)
    rng = np.random.default_rng(10)
    copy = e.apply(e.random(rng, model, ("residual",)), model)
    start = published.summary(published.distances(copy, model), model)[1]
    several = copy.map(lambda x: x[None])
    as_published, mended = (
        e.apply(step(several, model), several)
        for step in (published.residual_transposed, published.residual)
    )
    assert published.summary(published.distances(as_published, model), model)[1] > 0.5 * start
    assert published.summary(published.distances(mended, model), model)[0] < 1e-20


def test_the_published_search_recovers_what_needs_no_rotation():
    model = model_of(3, used=dyck.ALL)
    rng = np.random.default_rng(11)
    copy = e.apply(e.random(rng, model, ("heads", "neurons")), model)
    found = published.search(copy, model, transposed=True, n_starts=1)
    assert found.max_mse < 1e-20
    assert errors(e.apply(found.element, copy), found.moved)["all"] < 1e-12
    turned = e.apply(e.random(rng, model, ("residual",)), copy)
    assert published.search(turned, model, transposed=True, n_starts=1).max_mse > 1e-4
    assert published.search(turned, model, transposed=False, n_starts=1).max_mse < 1e-8


def terms() -> tuple[joint.Terms, joint.Terms]:
    """Weights and activations that want different rotations."""
    rng = np.random.default_rng(12)
    ours = e.apply(e.random(rng, MODEL, ("residual",)), MODEL)
    moments = Moments(64, 64)
    a = rng.standard_normal((500, 64)) * np.linspace(0.1, 3, 64) + 1
    moments.add(a, a @ e.random(rng, MODEL, ("residual",)).residual + 0.1)
    return (
        joint.of_weights(ours.tensors(), MODEL.tensors(), joint.NORMALISED),
        joint.of_activations([moments], np.eye(64), ["a site"], joint.NORMALISED),
    )


def test_terms_are_the_errors_they_stand_for():
    rng = np.random.default_rng(13)
    rotation = e.random(rng, MODEL, ("residual",)).residual
    ours = model_of(5)
    moved = e.apply(e.identity(MODEL)._replace(residual=rotation), ours)
    whole = joint.of_weights(ours.tensors(), MODEL.tensors(), joint.NORMALISED).error(rotation)
    assert whole == pytest.approx(errors(moved, MODEL)["all"] ** 2)
    a, b = rng.standard_normal((2, 300, 64)) + 0.5
    moments = Moments(64, 64)
    moments.add(a, b)
    first = e.random(rng, MODEL, ("residual",)).residual
    activations = joint.of_activations([moments], first, ["a site"], joint.PUBLISHED)
    wanted = np.square(b @ first.T @ rotation.T - a).mean()
    assert activations.error(rotation) == pytest.approx(wanted)


def test_both_studies_measure_the_same_largest_difference():
    """The joint table's figure without a further rotation is that of the published search."""
    ours = model_of(5, used=dyck.ALL)
    reference = model_of(3, used=dyck.ALL)
    tensors = published.tensors(reference)
    gains = published.N_GAINS * reference.width
    terms_of = joint.of_weights(published.tensors(ours), tensors, joint.PUBLISHED, gains)
    sizes = np.array([value.size for value in tensors.values()])
    each = terms_of.each(np.eye(reference.width)) / terms_of.weight / sizes
    largest, mean = published.summary(published.distances(ours, reference), reference)
    assert each.max() == pytest.approx(float(largest))
    assert terms_of.error(np.eye(reference.width)) == pytest.approx(float(mean))


def test_the_closed_form_is_the_optimum_and_its_curve_a_trade():
    weights, activations = terms()
    rng = np.random.default_rng(14)
    curve = []
    for lam in np.linspace(0, 1, 11):

        def loss(rotation, lam=lam):
            return (1 - lam) * weights.error(rotation) + lam * activations.error(rotation)

        best = joint.optimum(weights, activations, lam)
        by_det = [joint.optimum(weights, activations, lam, det) for det in (1, -1)]
        assert [round(np.linalg.det(r)) for r in by_det] == [1, -1]
        assert min(map(loss, by_det)) == pytest.approx(loss(best))
        for _ in range(20):
            near = np.linalg.qr(best + 1e-3 * rng.standard_normal(best.shape))
            turned = near.Q * np.sign(np.diag(near.R))
            assert loss(turned) >= loss(best)
        curve.append((weights.error(best), activations.error(best)))
    errors_w, errors_a = np.array(curve).T
    assert (np.diff(errors_w) >= -1e-9).all()
    assert (np.diff(errors_a) <= 1e-9).all()
    assert errors_a[-1] < 0.1 * errors_a[0]


def test_the_published_optimiser_keeps_a_state_that_it_does_not_minimise():
    weights, activations = terms()
    sizes = np.array([value.size for value in MODEL.tensors().values()])
    found = published_joint.minimise(weights, activations, sizes, 1.0)
    best = activations.error(joint.optimum(weights, activations, 1.0, 1))
    assert np.linalg.det(found.published) == pytest.approx(1)
    assert best <= activations.error(found.least_loss) <= activations.error(found.published)


def test_bad_weights_are_refused_by_name():
    state = state_of(3)
    with pytest.raises(UserError, match=r"a test: there is no blocks\.0\.ln1\.gain"):
        folded({k: v for k, v in state.items() if k != "blocks.0.ln1.gain"}, dyck.gains(), "a test")
    broken = {**state, "W_E": np.full_like(state["W_E"], np.nan)}
    with pytest.raises(UserError, match="a test: tensor W_E is not finite"):
        folded(broken, dyck.gains(), "a test")
    smaller = MODEL._replace(reads=MODEL.reads[:, :200])
    with pytest.raises(UserError, match=r"reads has shape \(2, 200, 64\) in the model"):
        search.align(np.random.default_rng(0), smaller, MODEL, 2, 1)
