"""A results folder with a file of every kind, as jobs write it, and paths in it."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from crossseed import atomic, card, layout, pairs, passes, store
from crossseed.activations import ACTIVATIONS_SCHEMA, TOKENS_SCHEMA
from crossseed.cohorts.base import CURVE_COLUMNS, QUALITY_COLUMNS
from crossseed.cohorts.dyck.config import CHECKPOINTS, CHECKPOINTS_SCHEMA
from crossseed.cohorts.neox import provenance
from crossseed.haar.null import SCHEMA as NULL_SCHEMA
from crossseed.sae import dictionary, formats, study
from crossseed.sae.architectures.relu_l1 import Config
from crossseed.tables import COLUMNS
from crossseed.verify import study as verify

COHORT, SITE, WIDTH = "toy", "blocks.0.hook_resid_pre", 4


RECIPE = {
    "architecture": "relu_l1",
    "l1": 1e-3,
    "steps": 4,
    "batch_tokens": 8,
    "lr": 1e-3,
    "warmup_steps": 0,
    "decay_steps": 0,
    "grad_clip": None,
    "tied_init": False,
    "standardise": False,
}


def cell(seed, **more):
    return {"cohort": COHORT, "seed": seed, "checkpoint": "final", "site": SITE, **more}


def at(template, seed=0, **more):
    """A path of the folder, from results/ on."""
    return template.format(**{**cell(seed), "source": 0, "target": 1, **more})


WEIGHTS = at(layout.DICTIONARY_WEIGHTS, dictionary="relu-x2", init="shared")


CFG = at(layout.DICTIONARY_CFG, dictionary="relu-x2", init="shared")


METRICS = at(layout.DICTIONARY_METRICS, dictionary="relu-x2")


PORT = at(layout.PORT, dictionary="relu-x2", init="shared")


CONDITION = at(layout.JOINT_CONDITION, condition="3prime-distinct")


LATENTS = at(layout.JOINT_LATENTS, condition="3prime-distinct")


RETRAINED = at(layout.JOINT_NULL, null="random10")


REPORT = layout.REPORT.format(run="smoke")


def make(root):
    """A small results folder, written as the jobs of a run write it, and their logs."""
    rng = np.random.default_rng(0)
    atomic.WRITTEN.clear()
    with store.create_h5(root / at(layout.TOKENS), TOKENS_SCHEMA, {"seed": 0}, {}) as file:
        store.add_dataset(file.create_group("fit"), "tokens", data=np.arange(20).reshape(5, 4))
    with store.open_h5(root / at(layout.TOKENS), TOKENS_SCHEMA) as file:
        tokens = store.header(file).digest
    digests = {}
    for seed in (0, 1):
        path = root / CHECKPOINTS.format(cohort=COHORT, seed=seed)
        weights = {"final/W": rng.standard_normal((3, 3)).astype(np.float32)}
        anchor = {"anchor": digests["model", 0]} if seed else {}
        spec = {"cohort": COHORT, "seed": seed}
        store.write_tensors(path, weights, CHECKPOINTS_SCHEMA, spec, anchor)
        digests["model", seed] = store.digest_of(path)
        table(path.with_name("quality.csv"), QUALITY_COLUMNS, cohort=COHORT, seed=seed)
        table(path.with_name("training.csv"), CURVE_COLUMNS, cohort=COHORT, seed=seed)
        source = f"origin{seed}:{SITE}"
        made = {"model": digests["model", seed], "tokens": tokens}
        path = root / at(layout.ACTIVATIONS, seed)
        with store.create_h5(path, ACTIVATIONS_SCHEMA, {**cell(seed), "source": source}, made) as f:
            group = f.create_group("fit")
            store.add_dataset(group, "activations", data=rng.standard_normal((64, WIDTH)))
            store.add_dataset(group, "count", data=64)
        digests["activations", seed] = store.digest_of(path)
        of = cell(seed, dictionary="relu-x2", expansion=2, activations=source, variant=RECIPE)
        config = Config.model_validate(
            {**RECIPE, "expansions": [2], "inits": ["shared"], "members": "all"}
        )
        folder = (
            root
            / Path(at(layout.DICTIONARY_WEIGHTS, seed, dictionary="relu-x2", init="shared")).parent
        )
        arrays = {
            "W_enc": rng.standard_normal((WIDTH, 2 * WIDTH)).astype(np.float32),
            "b_enc": np.zeros(2 * WIDTH, np.float32),
            "W_dec": rng.standard_normal((2 * WIDTH, WIDTH)).astype(np.float32),
            "b_dec": np.zeros(WIDTH, np.float32),
        }
        cfg = dictionary.cfg_of(config, 2, WIDTH, SITE)
        made = {"activations": digests["activations", seed]}
        dictionary.save(folder, arrays, cfg, {**of, "init": "shared"}, made)
        metrics = root / at(layout.DICTIONARY_METRICS, seed, dictionary="relu-x2")
        table(metrics, study.COLUMNS, **cell(seed, dictionary="relu-x2"), init="shared")
    both = {role: f"origin{seed}:{SITE}" for role, seed in (("source", 0), ("target", 1))}
    pair = {"cohort": COHORT, "source_seed": 0, "target_seed": 1, "checkpoint": "final"}
    pair["site"] = SITE
    made = {role: digests["activations", seed] for role, seed in (("source", 0), ("target", 1))}
    path = root / at(layout.MAPS)
    with store.create_h5(path, pairs.SCHEMA, {**pair, "activations": both}, made) as file:
        store.add_dataset(file.create_group("half0"), "cross", data=np.eye(WIDTH))
    found = formats.read(root / Path(WEIGHTS).parent)
    of = {**cell(1), "activations": both}
    formats.save(
        root / PORT,
        found,
        formats.dictionary_of(found),
        SITE,
        of,
        {"from": {"cohort": COHORT, "seed": 0, "checkpoint": "final"}},
        both,
    )
    named = {**pair, "dictionary": "relu-x2-shared"}
    table(root / PORT / "card.csv", card.COLUMNS, **named)
    table(root / PORT / "card-evidence.csv", card.JUDGEMENT, **named)
    table(root / CONDITION, COLUMNS["joint_conditions"], **pair, condition="3'", init="distinct")
    table(root / LATENTS, COLUMNS["joint_latents"], **pair, condition="3'", init="distinct")
    table(
        root / f"{REPORT}/tables/joint_regression.csv",
        COLUMNS["joint_regression"],
        scope="all",
        draws="published",
    )
    table(root / RETRAINED, COLUMNS["joint_nulls"], **pair, null="random", draw=3)
    table(root / at(layout.FITS), COLUMNS["fits"], **pair)
    table(root / at(layout.DIRECTIONS), COLUMNS["directions"], **pair)
    with store.create_h5(
        root / layout.NULL.format(width=4, draws=600), NULL_SCHEMA, {"d": 4, "draws": 600}, {}
    ) as file:
        store.add_dataset(file, "ks", data=np.zeros(5))
    table(root / f"{REPORT}/tables/fits.csv", COLUMNS["fits"], **pair)
    for page in ("index", "features/toy-0-1-final-blocks-0-hook_resid_pre-7"):
        store.write_text(root / f"{REPORT}/{page}.html", "<html></html>\n")
    store.write_text(root / f"{REPORT}/figures/ladder.svg", "<svg><path d='M0'/></svg>")
    (root / f"{REPORT}/figures/ladder.png").write_bytes(png())
    passes.record(root / at(layout.PASSES), [SITE])
    made_model(root)
    log = root / f"results/{COHORT}/logs/all.log"
    log.parent.mkdir()
    lines = [f"wrote {store.digest_of(p)} {p.relative_to(root)}" for p in atomic.WRITTEN]
    log.write_text("$ crossseed train\n" + "\n".join(lines) + "\n")


def table(path, columns, **named):
    row = dict.fromkeys(columns, "") | {"value": 0.5} | named
    store.write_table(path, columns, [row, row])


def png():
    parts = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", bytes(13)), (b"IEND", b"")):
        parts += len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
    return parts


def made_model(root):
    """A transformers folder, as training seals it."""
    folder = root / f"results/{COHORT}-lm/models/seed0/final"
    folder.mkdir(parents=True)
    save_file({"w": np.ones((2, 2), np.float32)}, folder / "model.safetensors")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    told = {"cohort": f"{COHORT}-lm", "seed": 0, "checkpoint": "final"}
    provenance.seal(folder, told)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    make(root)
    return root


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole / "results", tmp_path / "results", symlinks=True)
    return tmp_path


def problems(root):
    return verify.check(root / "results").problems


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


ACTIVATIONS = at(layout.ACTIVATIONS)


MODEL = f"results/{COHORT}-lm/models/seed0/final"
