"""crossseed port: files for another model, and what is refused."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from test_transfer import RELU, D, planted_dictionary, rotated

from crossseed import cli, pairs, vectors
from crossseed.activations import ACTIVATIONS_SCHEMA
from crossseed.alignment.ladder import NULLS
from crossseed.errors import UserError
from crossseed.sae import dictionary, formats
from crossseed.store import add_dataset, create_h5

SITE = "blocks.0.hook_resid_post"


def activations(path, rows, seed, site=SITE):
    spec = {"cohort": "c", "seed": seed, "checkpoint": "final", "site": site}
    spec["source"] = f"origin{seed}:{site}"
    with create_h5(path, ACTIVATIONS_SCHEMA, spec, {"tokens": "t", "model": "m"}) as file:
        for split, x in rows.items():
            group = file.create_group(split)
            add_dataset(group, "activations", data=x.astype(np.float32))
            sequence, position = np.divmod(np.arange(len(x), dtype=np.int32), 10)
            for name, values in zip(
                ("sequence", "position", "document"), (sequence, position, sequence), strict=True
            ):
                add_dataset(group, name, data=values)
    return path


@pytest.fixture
def models(tmp_path, sparse_rows):
    """Two models, the second a rotated copy of the first, and a dictionary of the first."""
    rows = sparse_rows()
    a, b = (activations(tmp_path / f"{n}.h5", x, n) for n, x in ((0, rows), (1, rotated(rows))))
    found = planted_dictionary(RELU, rows)
    arrays = dict(zip(("W_enc", "b_enc", "W_dec", "b_dec"), found[:4], strict=True))
    cfg = dictionary.cfg_of(RELU, 3, D, SITE)
    spec = {"cohort": "c", "seed": 0, "checkpoint": "final", "site": SITE}
    spec |= {"activations": f"origin0:{SITE}"}
    dictionary.save(tmp_path / "sae", arrays, cfg, spec, {})
    return tmp_path, a, b, rows


def port(*args):
    return cli.main(["port", *map(str, args)])


def test_a_dictionary_arrives_with_its_card(models, capsys):
    folder, a, b, rows = models
    out = folder / "ported"
    assert (
        port("--sae", folder / "sae", "--from", a, "--to", b, "--out", out, "--resamples", 100) == 0
    )
    with open(out / "card.csv", newline="") as handle:
        card = {(r["arm"], r["metric"]): float(r["value"]) for r in csv.DictReader(handle)}
    assert {arm for arm, _ in card} == {"ported", "raw", "source", *NULLS}
    assert card["ported", "firing_r"] == pytest.approx(1, abs=1e-4)
    assert card["ported", "ev"] == pytest.approx(card["source", "ev"], abs=1e-5)
    found = formats.dictionary_of(formats.read(out))
    x = rotated(rows)["eval"].astype(np.float32)
    source = dictionary.load(folder / "sae")
    assert np.abs(found.encode(x) - source.encode(rows["eval"].astype(np.float32))).max() < 1e-4
    cfg = json.loads((out / "cfg.json").read_text())
    ported = cfg["metadata"]["crossseed"]["ported"]
    assert (ported["from"]["seed"], ported["map"]) == (0, "procrustes")
    assert cfg["metadata"]["crossseed"]["spec"]["activations"] == f"origin1:{SITE}"
    assert ported["measured_on_eval"]["ported"]["ev"] == card["ported", "ev"]
    assert cfg["metadata"]["hook_name"] == SITE
    # It is of the second model now; ported back, it is what it was.
    assert (
        port("--sae", out, "--from", b, "--to", a, "--out", folder / "back", "--resamples", 100)
        == 0
    )
    back = load_file(folder / "back" / "sae_weights.safetensors")
    assert np.abs(back["W_dec"] - source.W_dec).max() < 1e-5
    capsys.readouterr()


@pytest.mark.parametrize("suffix", vectors.SUFFIXES)
def test_vectors_and_probes_arrive(models, suffix):
    folder, a, b, rows = models
    v = np.random.default_rng(0).standard_normal(D).astype(np.float32)
    vectors.write(folder / f"v{suffix}", v)
    options = ("--vector", folder / f"v{suffix}", "--from", a, "--to", b)
    assert port(*options, "--out", folder / f"w{suffix}") == 0
    turned = rotated({"x": v[None], "0": np.zeros((1, D))})
    assert vectors.read(folder / f"w{suffix}") == pytest.approx(
        (turned["x"] - turned["0"])[0], abs=1e-4
    )
    assert port(*options, "--kind", "probe", "--bias", 0.5, "--out", folder / f"p{suffix}") == 0
    with open(folder / f"p{suffix}.card.csv", newline="") as handle:
        card = {r["arm"]: float(r["value"]) for r in csv.DictReader(handle)}
    assert set(card) == {"ported", "raw", *NULLS}
    assert card["ported"] == pytest.approx(1, abs=1e-4)
    assert max(abs(card["shuffled"]), abs(card["random"])) < 0.9
    about = json.loads((folder / f"p{suffix}.json").read_text())
    assert about["pair"]["target_seed"] == 1
    bias = about["bias"]
    read = rotated(rows)["eval"] @ vectors.read(folder / f"p{suffix}") + bias
    assert read == pytest.approx(rows["eval"] @ v + 0.5, abs=1e-3)


def test_a_map_of_other_models_is_refused_by_both_names(models, capsys):
    folder, a, b, rows = models
    made = {"source": f"origin0:{SITE}", "target": f"origin7:{SITE}"}
    spec = {"cohort": "c", "source_seed": 0, "target_seed": 7, "checkpoint": "final", "site": SITE}
    other = activations(folder / "other.h5", rotated(rows), 7)
    with pairs.open_readers("fit", a, other, None, made) as readers:
        pair = pairs.fit(readers, {**spec, "activations": made}, *spec.values())
    pairs.write(folder / "maps.h5", pair, {})
    options = ("--from", a, "--to", b, "--maps", folder / "maps.h5", "--out", folder / "x.npy")
    vectors.write(folder / "v.npy", np.ones(D, np.float32))
    for what in (("--sae", folder / "sae"), ("--vector", folder / "v.npy")):
        assert port(*what, *options) == 2
        said = capsys.readouterr().err
        assert "between c seed 0 and seed 7" in said
        assert "its target is not c seed 1 final" in said


def test_what_does_not_fit_is_refused_by_name(models, capsys):
    folder, a, b, rows = models
    elsewhere = activations(folder / "e.h5", rows, 1, "blocks.1.hook_resid_post")
    both = activations(folder / "f.h5", rows, 0, "blocks.1.hook_resid_post")
    out = ("--out", folder / "x")
    sae = ("--sae", folder / "sae")
    refused = [
        ((*sae, "--from", a, "--to", elsewhere), f"of site {SITE}, .* of blocks.1.hook_resid_post"),
        (
            (*sae, "--from", both, "--to", elsewhere),
            f"is of site {SITE}, but .* is of blocks.1",
        ),
        (
            (*sae, "--from", b, "--to", a),
            "is of c seed 0 final, .* is of c seed 1 final",
        ),
        ((*sae, "--from", a, "--to", b, "--tokens", a), "--spec and --tokens go together"),
        (
            ("--sae", folder / "none", "--from", a, "--to", b),
            "neither a folder nor a name on the hub",
        ),
    ]
    assert port(*sae, "--from", a, "--to", b, "--out", folder / "ported", "--resamples", 100) == 0
    spec = json.dumps(
        {
            "kind": "dyck",
            "member": {"cohort": "c", "seed": 0, "checkpoint": "final"},
            "sequences": 1,
        }
    )
    fits = ("--from", a, "--to", b)
    refused += [
        (
            ("--sae", folder / "ported", *fits),
            "ported is of c seed 1 final, .* is of c seed 0 final",
        ),
        (
            (*sae, *fits, "--own", folder / "sae"),
            "sae is of c seed 0 final, .* is of c seed 1 final",
        ),
        (
            (*sae, *fits, "--spec", spec, "--tokens", a),
            "--spec runs seed 0, but --to is of c seed 1",
        ),
        ((*sae, *fits, "--kind", "probe"), "--kind has no meaning for a dictionary"),
        ((*sae, *fits, "--model", a), "--model with them"),
        (("--sae", "./typo", *fits), "neither a folder nor a name on the hub"),
    ]
    np.save(folder / "long.npy", np.ones(D + 1))
    refused.append((("--vector", folder / "long.npy", *fits, "--bias", 1), "--bias has no meaning"))
    refused.append(
        (
            ("--vector", folder / "long.npy", "--from", a, "--to", b, "--out", folder / "y.npy"),
            "does not fit a map of width 16",
        )
    )
    for arguments, said in refused:
        assert port(*out, *arguments) == 2
        assert re.search(said, capsys.readouterr().err), said
    assert not (folder / "x").exists()


def test_a_dictionary_that_is_dead_on_the_other_model_has_a_card_all_the_same(models):
    folder, a, b, rows = models
    found = planted_dictionary(RELU, rows)
    dead = {
        "W_enc": found.W_enc,
        "b_enc": found.b_enc - 1e4,
        "W_dec": found.W_dec,
        "b_dec": found.b_dec,
    }
    dictionary.save(folder / "dead", dead, dictionary.cfg_of(RELU, 3, D, SITE), {}, {})
    assert (
        port(
            "--sae",
            folder / "dead",
            "--from",
            a,
            "--to",
            b,
            "--out",
            folder / "x",
            "--resamples",
            100,
        )
        == 0
    )
    cfg = json.loads((folder / "x" / "cfg.json").read_text())
    assert cfg["metadata"]["crossseed"]["ported"]["measured_on_eval"]["ported"]["firing_r"] is None


def test_one_place_has_one_name():
    assert formats.canonical("blocks.3.hook_resid_pre") == "blocks.2.hook_resid_post"
    for site in ("blocks.0.hook_resid_pre", SITE, "blocks.1.hook_mlp_out"):
        assert formats.canonical(site) == site


def test_files_that_hold_no_vector_are_refused(tmp_path):
    np.save(tmp_path / "matrix.npy", np.ones((3, 4)))
    np.save(tmp_path / "nan.npy", np.full(4, np.nan))
    torch.save({"a": torch.ones(3)}, tmp_path / "mapping.pt")
    (tmp_path / "damaged.npy").write_bytes(b"no")
    for name, said in (
        ("matrix.npy", r"shape \(3, 4\), expected one vector"),
        ("nan.npy", "NaN"),
        ("mapping.pt", "holds a dict, expected one tensor"),
        ("damaged.npy", "cannot be read"),
        ("none.npy", "cannot be read"),
        ("v.csv", r"end in \.npy, \.pt, \.safetensors"),
    ):
        with pytest.raises(UserError, match=said):
            vectors.read(tmp_path / name)
    torch.save(torch.ones(1, 4, dtype=torch.bfloat16), tmp_path / "half.pt")
    assert vectors.read(tmp_path / "half.pt").dtype == np.float32
