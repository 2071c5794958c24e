"""What speed rests on, counted: no clock is read here (see benchmarks/ for those that do)."""

import csv
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from crossseed import activations, cli
from crossseed.alignment import maps
from crossseed.alignment.moments import Moments
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck import task, training
from crossseed.cohorts.dyck.config import Training
from crossseed.cohorts.dyck.members import DyckMember
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.haar import null, study
from crossseed.pairs import Pair

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
# What each verb imports of what takes long, on the toys; others import none of it.
EXPECTED = {
    verb: heavy
    for heavy, verbs in {
        ("pydantic",): ("tokens", "shared", "transfer", "cosine", "collect", "over_seeds"),
        ("scipy",): ("fits", "null", "haar", "across", "cocycle"),
        ("scipy", "pydantic"): (
            "match",
            "compare",
            "bridge",
            "stability",
            "absorption",
            "interpret",
        ),
        ("scipy", "scipy.stats"): ("power", "ks"),
        ("scipy", "scipy.stats", "pydantic"): ("published",),
        ("pandas",): ("joint_tables",),
        ("pandas", "pydantic"): ("claims",),
        ("scipy", "scipy.stats", "pandas", "matplotlib", "seaborn", "pydantic"): ("report",),
        ("torch", "pydantic"): (
            *(
                "train",
                "extract",
                "splice",
                "port",
                "steer",
                "features",
                "attribute",
                "causes",
                "sae",
            ),
            *("calibrate", "weights", "bars", "lenses", "drift"),
            *("joint_cache", "joint_maps", "joint_fits", "joint_size", "joint_train"),
        ),
        ("torch", "scipy", "pydantic"): (
            *("joint_evaluate", "joint_null", "joint_tests", "joint_counterfactuals"),
        ),
    }.items()
    for verb in verbs
}


def benchmark(name):
    """A module of benchmarks/, which finds its neighbours."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def imported():
    imports = benchmark("imports")
    labels = {verb: imports.names_of(verb) for verb in cli.JOB_VERBS}
    asked = json.dumps(
        [imports.HEAVY, [v for v in labels if "torch" in EXPECTED.get(v, ())], labels]
    )
    found = subprocess.run(
        [sys.executable, HERE / "imported.py"], input=asked + "\n", capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout)


def test_each_verb_imports_what_is_written_down_for_it(imported):
    assert {v: tuple(x) for v, x in imported.items()} == {v: EXPECTED.get(v, ()) for v in imported}


class CountedMember(DyckMember):
    """Counts passes, and the sites that each gives."""

    def __init__(self):
        super().__init__(DyckTransformer(0), "counted")
        self.passes = []

    def activations(self, tokens_nt, wanted):
        self.passes.append((len(tokens_nt), tuple(wanted)))
        return super().activations(tokens_nt, wanted)


def test_extraction_passes_each_sequence_once_and_writes_little_but_activations(tmp_path):
    sites = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_mid"]
    tokens = task.sample_train(np.random.default_rng(0), 700, (20, 48))
    keep = tokens != task.PAD
    sets = {"fit": TokenSet(tokens, keep, {}, np.arange(len(tokens)))}
    member = CountedMember()
    out = {site: tmp_path / f"{site}.h5" for site in sites}
    activations.extract(member, sets, "", out, {site: {} for site in sites}, "float32")
    each = activations.FORWARD_TOKENS // tokens.shape[1]
    assert len(member.passes) == -(-len(tokens) // each)
    assert sum(n for n, _ in member.passes) == len(tokens)
    assert {wanted for _, wanted in member.passes} == {tuple(sites)}
    n, width = int(keep.sum()), member.width(sites[0])
    whole_chunks = -(-n // activations.CHUNK_ROWS) * activations.CHUNK_ROWS * width * 4
    # Sequence, position, document and token, and HDF5's own.
    index = n * (4 + 4 + 4 + 1) + 16_384
    for path in out.values():
        assert whole_chunks < path.stat().st_size < whole_chunks + index


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in {"mm", "addmm", "bmm", "baddbmm"} or "attention" in name:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def recipe(**changes):
    return Training.model_validate(
        {
            "steps": 20, "batch_rows": 16, "pool_rows": 64, "lengths": [2, 20], "short_first_steps": 10,
            "peak_lr": 1e-3, "warmup_steps": 2, "final_lr_fraction": 0.1, "weight_decay": 0.0,
            "grad_clip": 1.0, "precision": "float32", "keep_steps": [], "eval_every_steps": 20,
            "eval_rows": 8, "stop": None, **changes,
        }
    )  # fmt: skip


def test_a_training_step_is_one_pass_forward_and_one_back():
    told = recipe()
    stepper = training.Stepper(DyckTransformer(0), told)
    batch = next(training.training_batches(0, told, 0))
    forward, step = Products(), Products()
    with forward, torch.no_grad():
        stepper.model(torch.from_numpy(batch.tokens).long())
    with step:
        stepper(batch, 1e-3)
    once, whole = forward.found["mm"], step.found["mm"]
    # Each product has two in the pass back: by its weights and by its input.
    assert once == 9
    assert whole == 3 * once
    assert sum(n for name, n in step.found.items() if "attention" in name) == 4


def test_a_pool_of_batches_is_drawn_and_labelled_once(monkeypatch):
    told, drawn, labelled = recipe(), [], []
    sample, label = task.sample_train, task.label
    monkeypatch.setattr(
        task, "sample_train", lambda rng, n, lengths: drawn.append(n) or sample(rng, n, lengths)
    )
    monkeypatch.setattr(
        task, "label", lambda tokens: labelled.append(tokens.shape) or label(tokens)
    )
    batches = list(training.training_batches(0, told, 0))
    assert len(batches) == told.steps
    assert drawn == [told.pool_rows] * (told.steps * told.batch_rows // told.pool_rows)
    assert [rows for rows, _ in labelled] == drawn
    # No further than the longest row of the pool.
    assert all(positions <= told.lengths[1] + 2 for _, positions in labelled)


def test_maps_and_haar_tests_of_a_pair_factorise_each_matrix_once(monkeypatch):
    d, rng = 16, np.random.default_rng(0)
    turn = maps.haar_orthogonal(rng, d)
    first, second, shuffled = (Moments(d, d) for _ in range(3))
    for moments in (first, second, shuffled):
        a = rng.standard_normal((8 * d, d))
        moments.add(a, a @ turn + 0.05 * rng.standard_normal(a.shape))
    nulls = {size: null.draw(size, 600) for size in (d, d // 2)}
    spec = {"site": "s", "source_seed": 0, "target_seed": 1}
    found: dict[str, list[bytes]] = {"svd": [], "eigh": []}

    def counted(name):
        function = getattr(np.linalg, name)

        def run(matrix, *args, **options):
            # An empty matrix, where tokens decide all directions, is no work.
            found[name] += [matrix.tobytes()] * (matrix.size > 0)
            return function(matrix, *args, **options)

        monkeypatch.setattr(np.linalg, name, run)

    for name in found:
        counted(name)
    pair = Pair(("p",), (first, second), shuffled, (np.ones(d), np.ones(d)), None, spec)

    def calls():
        made = {name: len(matrices) for name, matrices in found.items()}
        assert made == {name: len(set(matrices)) for name, matrices in found.items()}
        for matrices in found.values():
            matrices.clear()
        return made

    study.of_pair(pair, nulls)
    # The rotations of all tokens, their halves and shuffled ones, and two of half the directions; the principal axes of both,
    # and five spectra.
    assert calls() == {"svd": 4 + 2, "eigh": 2 + 5}
    pair.maps((1, 4))
    # Procrustes, shuffled, and a twin and a restricted rotation each; both axes, and of ridges the halves.
    assert calls() == {"svd": 2 + 4, "eigh": 2 + 2}


def test_a_job_ends_as_python_does_but_for_its_taking_apart(tmp_path):
    script = (
        "import atexit, pathlib\n"
        "from crossseed import __main__\n"
        "atexit.register(pathlib.Path('registered').touch)\n"
        "class Kept:\n"
        "    def __del__(self): pathlib.Path('taken-apart').touch()\n"
        "kept = Kept()\n"
        "print('said', end='')\n"
        "__main__._end(3)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert (found.returncode, found.stdout) == (3, b"said")
    assert [path.name for path in tmp_path.iterdir()] == ["registered"]


def test_the_page_is_made_of_the_committed_tables(tmp_path):
    page = benchmark("page")
    assert page.PAGE.read_text(encoding="utf-8") == page.text()
    page.draw(page.found(), tmp_path)
    for name in ("floors.svg", "peers.svg"):
        assert (page.FIGURES / name).read_bytes() == (tmp_path / name).read_bytes()


def test_every_row_that_misses_its_goal_says_why_and_no_other():
    page = benchmark("page")
    missed = [(part.file, row) for part, rows in page.found() for row in rows if row.missed]
    assert [row.what for file, row in missed if not page.why(file, row)] == []
    needed = {page.reason(file, row) for file, row in missed}
    assert sorted(page.WHY.keys() - needed) == []


def test_the_table_of_sae_training_has_every_size_at_full_length():
    sae = benchmark("sae")
    with open(ROOT / "benchmarks/results/sae_training.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["device"] == "cpu"]
    sizes = {
        threads: {
            tuple(int(row[k]) for k in ("d", "n_latents", "batch", "steps", "repeats"))
            for row in rows
            if row["threads"] == threads
        }
        for threads in {row["threads"] for row in rows}
    }
    told = {(s.d, s.n_latents, s.batch, s.steps, s.repeats) for s in sae.SIZES}
    assert "1" in sizes
    assert all(found == told for found in sizes.values())
    assert {row["contestant"] for row in rows} == {*sae.OURS, *sae.PEERS}


def test_it_is_said_of_every_table_under_what_it_was_measured():
    measured = benchmark("measured")
    with open(measured.MADE, newline="") as handle:
        made = {row["table"] for row in csv.DictReader(handle)}
    # The first says it of the others; the trend has it in itself; three are of the default run and name its commit.
    others = {"made.csv", "trend.csv", "answer.csv", "default_claims.csv", "default_studies.csv"}
    assert made == {path.name for path in measured.RESULTS.glob("*.csv")} - others
