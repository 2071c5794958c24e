"""Activation files and the batches drawn from them."""

import numpy as np
import pytest
import torch

from crossseed import activations as act
from crossseed.cohorts.dyck import members, sites, tokens
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.errors import UserError
from crossseed.store import source_of

TOKENS = {"seed": 0, "sequences": 600, "lengths": [4, 30], "fit": [0, 100], "train": [100, 500],
          "eval": [500, 600]}  # fmt: skip


@pytest.fixture
def extracted(tmp_path):
    act.write_tokens(tmp_path / "tokens.h5", TOKENS, *tokens.make_tokens(TOKENS, []))
    sets, digest = act.read_tokens(tmp_path / "tokens.h5")
    model = DyckTransformer(0)
    member = members.DyckMember(model, "m")
    out = {site: tmp_path / f"{site}.h5" for site in (sites.FIRST, sites.LAST)}
    specs = {site: {"source": source_of("o", site)} for site in out}
    act.extract(member, sets, digest, out, specs, "float32")
    return model, sets, out


def test_files_hold_the_forward_pass_token_by_token(extracted):
    model, sets, out = extracted
    for split, found in sets.items():
        with torch.no_grad():
            direct = model.residuals(torch.from_numpy(found.tokens_nt).long(), set(out))
        for site, path in out.items():
            with act.open_split(path, split, source_of("o", site)) as reader:
                rows = reader.rows(slice(None))
                expected = direct[site].numpy()[reader.sequence_n, reader.position_n]
                assert np.allclose(rows, expected, atol=1e-6)
                assert reader.n_tokens == found.keep_nt.sum()
                group = reader._group
                assert np.array_equal(group["token"][:], found.tokens_nt[found.keep_nt])
                assert np.array_equal(group["label_depth"][:], found.labels["depth"][found.keep_nt])


def test_splits_share_no_sequence(extracted):
    _, sets, _ = extracted
    rows = np.concatenate([found.tokens_nt for found in sets.values()])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_file_of_another_origin_or_site_is_refused(extracted):
    _, _, out = extracted
    for source in (source_of("other", sites.LAST), source_of("o", sites.FIRST)):
        with (
            pytest.raises(UserError, match="stale"),
            act.open_split(out[sites.LAST], "eval", source),
        ):
            pass


def test_float16_overflow_is_refused_by_site(tmp_path):
    class Big:
        digest = "m"

        def width(self, site):
            return 4

        def activations(self, tokens_nt, wanted):
            return {site: np.full((*tokens_nt.shape, 4), 1e6, np.float32) for site in wanted}

    sets, _ = tokens.make_tokens(TOKENS, [])
    with pytest.raises(UserError, match=r"blocks\.1.*float16"), np.errstate(over="ignore"):
        act.extract(Big(), sets, "t", {sites.LAST: tmp_path / "a.h5"}, {sites.LAST: {}}, "float16")
    assert not list(tmp_path.iterdir())


def test_each_epoch_visits_every_token_once(tmp_path, write_activations, sparse_rows):
    rows = sparse_rows()
    path = write_activations(tmp_path / "a.h5", rows)
    stream = act.BatchStream(path, "origin:site", 100, "order")
    per_epoch = len(rows["train"]) // 100
    source = stream(0)
    for _ in range(2):
        seen = np.concatenate([next(source) for _ in range(per_epoch)])
        assert np.array_equal(
            np.sort(seen, axis=0), np.sort(rows["train"].astype(np.float32), axis=0)
        )


@pytest.mark.parametrize("buffer_bytes", [1 << 30, 4096 * 16 * 4 * 2])
def test_batches_resume_anywhere(tmp_path, write_activations, monkeypatch, buffer_bytes):
    monkeypatch.setattr(act, "SHUFFLE_BUFFER_BYTES", buffer_bytes)
    rng = np.random.default_rng(0)
    rows = {split: rng.standard_normal((20_000, 16)) for split in ("fit", "train", "eval")}
    path = write_activations(tmp_path / "a.h5", rows)
    stream = act.BatchStream(path, "origin:site", 3000, "order")
    source = stream(0)
    whole = [next(source) for _ in range(15)]
    for start in (1, 5, 6, 7, 13):
        rest = stream(start)
        for expected in whole[start:]:
            assert np.array_equal(next(rest), expected)
    other = act.BatchStream(path, "origin:site", 3000, "another order")
    assert not np.array_equal(next(other(0)), whole[0])


def test_streamed_epochs_cover_the_file_too(tmp_path, write_activations, monkeypatch):
    monkeypatch.setattr(act, "SHUFFLE_BUFFER_BYTES", 4096 * 16 * 4 * 2)
    rows = {s: np.arange(20_000.0)[:, None] * np.ones(16) for s in ("fit", "train", "eval")}
    stream = act.BatchStream(
        write_activations(tmp_path / "a.h5", rows), "origin:site", 1000, "order"
    )
    source = stream(0)
    seen = np.concatenate([next(source) for _ in range(20)])[:, 0]
    assert np.array_equal(np.sort(seen), np.arange(20_000))
    assert (np.diff(seen) == 1).mean() < 0.01


def test_fewer_tokens_than_a_batch_is_refused(tmp_path, write_activations, sparse_rows):
    path = write_activations(tmp_path / "a.h5", sparse_rows())
    with pytest.raises(UserError, match="fewer than one batch"):
        act.BatchStream(path, "origin:site", 10**6, "order")


def test_non_finite_activations_are_refused(tmp_path, write_activations, sparse_rows):
    rows = sparse_rows()
    rows["eval"][3, 2] = np.nan
    path = write_activations(tmp_path / "a.h5", rows)
    with (
        pytest.raises(UserError, match=r"a\.h5.*NaN"),
        act.open_split(path, "eval", "origin:site") as reader,
    ):
        reader.rows(slice(None))


@pytest.mark.parametrize("buffer_bytes", [1 << 30, 4096 * 8 * 4 * 2])
def test_shuffled_features_keep_second_moments_and_nothing_that_goes_together(
    tmp_path, write_activations, monkeypatch, buffer_bytes
):
    """Planted: two features that never fire together, which makes their squares anticorrelate."""
    monkeypatch.setattr(act, "SHUFFLE_BUFFER_BYTES", buffer_bytes)
    rng = np.random.default_rng(3)

    def rows(n):
        which, sign = rng.integers(0, 2, n), rng.choice([-1.0, 1.0], n)
        found = 0.1 * rng.standard_normal((n, 8))
        found[np.arange(n), which] += sign * np.where(which == 0, 2.0, 1.0)
        return found @ np.linalg.qr(np.random.default_rng(4).standard_normal((8, 8))).Q

    of = {split: rows(20_000) for split in ("fit", "train", "eval")}
    path = write_activations(tmp_path / "a.h5", of)
    by = act.shuffling(path, "origin:site")
    stream = act.BatchStream(path, "origin:site", 1000, "order", shuffling=by)
    source = stream(0)
    seen = np.concatenate([next(source) for _ in range(20)])
    again = stream(3)
    assert np.array_equal(next(again), seen[3000:4000])

    def together(x):
        squares = np.square((x - x.mean(axis=0)) @ by.axes_dd)[:, -2:]
        return np.corrcoef(squares.T)[0, 1]

    with act.open_split(path, "eval", "origin:site") as split:
        held_out = act.ShuffledSplit(split, by, "eval")
        read = held_out.rows(slice(0, 20_000))
        assert np.array_equal(read, held_out.rows(slice(0, 20_000)))
        assert together(split.rows(slice(0, 20_000))) < -0.9
        assert held_out.n_tokens == split.n_tokens
    for name, found in (("train", seen), ("eval", read)):
        assert np.allclose(np.cov(found.T), np.cov(of[name].T), atol=0.03)
        assert np.allclose(found.mean(axis=0), of[name].mean(axis=0), atol=1e-3)
        assert abs(together(found)) < 0.05
