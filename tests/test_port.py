"""A folded map is the map itself: dictionaries, directions and probes carried over, in every architecture."""

import numpy as np
import pytest
from test_transfer import MADE, RELU, SPEC, TOPK, planted_dictionary, rotated

from crossseed import card, pairs, port
from crossseed.alignment.maps import AffineMap, haar_orthogonal
from crossseed.metrics import FiringSums, LatentSums, resample_weights
from crossseed.sae.dictionary import PER_LATENT, Dictionary

D, LATENTS, N = 24, 96, 400
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")


def latents(architecture, arrays, x, apply_b_dec, k=8):
    """SAELens's encoders, written anew."""
    x = x - arrays["b_dec"] if apply_b_dec else x
    product = x @ arrays["W_enc"]
    if architecture == "gated":
        magnitude = product * np.exp(arrays["r_mag"]) + arrays["b_mag"]
        return (product + arrays["b_gate"] > 0) * np.maximum(magnitude, 0)
    pre = product + arrays["b_enc"]
    if architecture == "topk":
        smallest = np.sort(pre, axis=1)[:, -k][:, None]
        return np.where(pre >= smallest, np.maximum(pre, 0), 0)
    if architecture == "jumprelu":
        return np.where(pre > arrays["threshold"], np.maximum(pre, 0), 0)
    return np.maximum(pre, 0)


def made(architecture, rng):
    shapes = {"W_enc": (D, LATENTS), "W_dec": (LATENTS, D), "b_dec": (D,)}
    more = {"gated": ("b_gate", "r_mag", "b_mag"), "jumprelu": ("b_enc", "threshold")}
    shapes |= dict.fromkeys(more.get(architecture, ("b_enc",)), (LATENTS,))
    scale = {"W_enc": D**-0.5, "W_dec": LATENTS**-0.5}
    return {
        name: (scale.get(name, 0.3) * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def maps(rng):
    rotation = haar_orthogonal(rng, D)
    shifts = rng.standard_normal((2, D))
    return {
        "orthogonal": AffineMap(rotation, *shifts),
        "scaled": AffineMap(1.7 * rotation, *shifts),
        "affine": AffineMap(rotation @ np.diag(np.linspace(0.5, 2, D)), *shifts),
    }


@pytest.mark.parametrize("kind", ["orthogonal", "scaled", "affine"])
@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folded_dictionary_is_map_dictionary_and_way_back(architecture, apply_b_dec, kind):
    rng = np.random.default_rng(0)
    arrays, affine = made(architecture, rng), maps(rng)[kind]
    x = rng.standard_normal((N, D)).astype(np.float32)
    folded = port.dictionary(arrays, affine, apply_b_dec)
    assert {name: v.dtype for name, v in folded.items()} == dict.fromkeys(arrays, np.float32)
    h = latents(architecture, folded, x, apply_b_dec)
    expected = latents(architecture, arrays, affine(x), apply_b_dec)
    # Where rounding decides whether a latent fires, it may; nowhere else.
    same = (h > 0) == (expected > 0)
    assert same.mean() > 0.9995
    assert np.abs(h - expected)[same].max() < 1e-5
    # The whole way, where the same latents fire: to 1e-6 of the largest value.
    found = h @ folded["W_dec"] + folded["b_dec"]
    there = (expected @ arrays["W_dec"] + arrays["b_dec"]).astype(np.float64)
    way_back = affine.inverse()(there)
    rows = same.all(axis=1)
    assert rows.mean() > 0.9
    assert np.abs(found - way_back)[rows].max() < 1e-6 * np.abs(way_back).max()


def test_directions_and_probes():
    rng = np.random.default_rng(1)
    x, v, w = rng.standard_normal((N, D)), *rng.standard_normal((2, D))
    for affine in maps(rng).values():
        moved = affine(x + port.direction(v, affine)) - affine(x)
        assert moved == pytest.approx(np.tile(v, (N, 1)))
        weights, bias = port.probe(w, 0.3, affine)
        assert x @ weights + bias == pytest.approx(affine(x) @ w + 0.3)
    assert np.linalg.norm(port.direction(v, maps(rng)["orthogonal"])) == pytest.approx(
        np.linalg.norm(v)
    )


def test_what_cannot_be_ported_is_refused():
    rng = np.random.default_rng(2)
    flat = AffineMap(np.diag([1.0] * (D - 1) + [0.0]), np.zeros(D), np.zeros(D))
    with pytest.raises(ValueError, match="largest singular value"):
        port.direction(np.ones(D), flat)
    with pytest.raises(ValueError, match=r"shape \(5,\) does not fit a map of width 24"):
        port.direction(np.ones(5), flat)
    with pytest.raises(ValueError, match="does not fit"):
        port.probe(np.ones(5), 0.0, flat)
    narrow = AffineMap(haar_orthogonal(rng, 8), np.zeros(8), np.zeros(8))
    with pytest.raises(ValueError, match="does not fit"):
        port.dictionary(made("standard", rng), narrow, True)


# --- what a ported dictionary is worth ----------------------------------------------------


@pytest.mark.parametrize("config", [RELU, TOPK])
@pytest.mark.parametrize("how", ["procrustes", "scaled", "ridge"])
def test_a_dictionary_ported_to_a_rotated_copy_is_worth_what_it_was(
    tmp_path, write_activations, sparse_rows, config, how
):
    rows = sparse_rows()
    a = write_activations(tmp_path / "a.h5", rows)
    b = write_activations(tmp_path / "b.h5", rotated(rows))
    with pairs.open_readers("fit", a, b, None, MADE) as readers:
        pair = pairs.fit(readers, SPEC, *SPEC.values())
    found = planted_dictionary(config, rows)
    like = pair.shuffled_like(how)
    more = {pairs.SHUFFLED_LIKE: like} if like is not None else {}
    tried = card.arms(found, {**pair.arms([]), **more}, how, None)
    with pairs.open_readers("eval", a, b, None, MADE) as readers:
        table, judged = card.measure(readers, found, tried, 100, "cell")
        x = readers.source.rows(slice(None))
    values = {(row["arm"], row["metric"]): row["value"] for row in table}
    xhat = found.decode(found.encode(x))
    own = 1 - np.square(x - xhat).sum() / np.square(x - x.mean(axis=0)).sum()
    assert own > 0.5
    assert values["ported", "ev"] == pytest.approx(own, abs=1e-5)
    assert values["ported", "firing_r"] == pytest.approx(1, abs=1e-4)
    assert set(card.COLUMNS) - set(card.NAMED) == set(table[0])
    for arm in ("raw", "random", "shuffled"):
        assert values[arm, "ev"] < own - 0.1, arm
    # Axes matched by rank explain as much, and fire at other times.
    assert values["covariance_random", "ev"] > own - 0.1
    for arm in ("raw", "random", "shuffled", "covariance_random"):
        assert values[arm, "firing_r"] < 0.7, arm
    # The null of the same class is there beside what is no rotation, and carries nothing.
    assert (how == "scaled") <= (pairs.SHUFFLED_LIKE in tried)
    if pairs.SHUFFLED_LIKE in tried:
        assert values[pairs.SHUFFLED_LIKE, "firing_r"] < 0.7
    # Of a copy without noise the covariance alone decides the rotation: nothing is claimed.
    assert [(r["metric"], r["best_null"], r["shared"]) for r in judged] == [
        ("firing_r", "covariance_skewness", 0)
    ]


def test_firing_is_told_over_the_same_latents_and_own_dictionaries_have_none(
    tmp_path, write_activations, sparse_rows
):
    rows = sparse_rows()
    other = rotated(rows)
    a, b = (write_activations(tmp_path / f"{n}.h5", x) for n, x in (("a", rows), ("b", other)))
    with pairs.open_readers("fit", a, b, None, MADE) as readers:
        pair = pairs.fit(readers, SPEC, *SPEC.values())
    found, own = planted_dictionary(RELU, rows), planted_dictionary(RELU, other)
    with pairs.open_readers("eval", a, b, None, MADE) as readers:
        tried = card.arms(found, pair.arms([]), "procrustes", own)
        table, _ = card.measure(readers, found, tried, 100, "cell")
    values = {(row["arm"], row["metric"]): row["value"] for row in table}
    assert values["own", "ev"] == pytest.approx(values["ported", "ev"], abs=0.05)
    assert ("own", "firing_r") not in values


def test_one_document_gives_a_mean_without_an_interval():
    rng = np.random.default_rng(6)
    own = LatentSums(1, 5)
    firing = FiringSums(own)
    a, b = rng.random((2, 30, 5))
    b[:, 4] = 0.0
    own.add(slice(0, 1), np.array([0]), a)
    firing.add(slice(0, 1), np.array([0]), a, b)
    found = firing.over_all(resample_weights(rng, 1, 10), own.varying())
    r = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(4)]
    assert found[0] == pytest.approx(sum(r) / 5)
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("architecture", ["jumprelu", "gated"])
def test_dictionaries_with_thresholds_and_gates_are_carried_too(architecture):
    rng = np.random.default_rng(4)
    arrays, affine = made(architecture, rng), maps(rng)["orthogonal"]
    more = {k: v for k, v in arrays.items() if k in PER_LATENT[architecture] and k != "b_enc"}
    b_enc = arrays.get("b_enc", np.zeros(LATENTS, np.float32))
    for apply_b_dec in (True, False):
        cfg = {"apply_b_dec_to_input": apply_b_dec, "metadata": {"crossseed": {}}}
        cfg["metadata"]["crossseed"]["architecture"] = architecture
        whole = Dictionary(arrays["W_enc"], b_enc, arrays["W_dec"], arrays["b_dec"], cfg, more=more)
        x = rng.standard_normal((N, D)).astype(np.float32)
        expected = latents(architecture, arrays, affine(x), apply_b_dec)
        assert np.abs(whole.encode(affine(x)) - expected).max() < 1e-5
        same = (card.carry(whole, affine).encode(x) > 0) == (expected > 0)
        assert same.mean() > 0.9995
        assert np.abs(card.carry(whole, affine).encode(x) - expected)[same].max() < 1e-5
