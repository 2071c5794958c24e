"""Every planted damage of a results folder is found and named, with the command that mends it; nothing else is."""

import os
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crossseed import atomic, card, cli, layout, pairs, passes, specs, store
from crossseed.activations import ACTIVATIONS_SCHEMA, TOKENS_SCHEMA
from crossseed.cohorts.base import CURVE_COLUMNS, QUALITY_COLUMNS
from crossseed.cohorts.dyck.config import CHECKPOINTS, CHECKPOINTS_SCHEMA
from crossseed.cohorts.neox import provenance
from crossseed.config.load import load_files
from crossseed.errors import UserError
from crossseed.haar.null import SCHEMA as NULL_SCHEMA
from crossseed.sae import dictionary, formats, study
from crossseed.sae.architectures.relu_l1 import Config
from crossseed.tables import COLUMNS
from crossseed.verify import study as verify
from crossseed.verify.places import KINDS, TOGETHER, place_of

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


def test_an_undamaged_folder_is_as_it_was_written(whole, capsys):
    found = verify.check(whole / "results")
    assert found.problems == []
    assert found.unfinished == found.unknown == []
    assert found.files == 38
    verify.report(whole / "results", found, print)
    assert "38 files" in capsys.readouterr().out


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, where=0.9):
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 0x04
    path.write_bytes(bytes(data))


def edit(path):
    """Flips a byte of what the file holds, not of its header or of a gap."""
    if path.suffix == ".h5":
        found = []
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda _, item: found.append(item.id) if hasattr(item, "shape") else None
            )
            at = max(found, key=lambda item: item.get_storage_size()).get_offset() + 9
    else:
        at = path.stat().st_size - 3
    data = bytearray(path.read_bytes())
    data[at] ^= 0x04
    path.write_bytes(bytes(data))


def digit(path):
    """Another number: a table that reads as well as before."""
    text = path.read_text()
    assert "0.5" in text
    path.write_text(text.replace("0.5", "0.6", 1))


def nan_in_h5(path):
    """NaN where a number was, the digests made right for it."""
    with h5py.File(path, "r") as file:
        found = store.header(file)
        arrays = {name: file[f"fit/{name}"][()] for name in file["fit"]}
    arrays["activations"][3, 2] = np.nan
    with store.create_h5(path, found.schema, found.spec, found.inputs) as file:
        for name, values in arrays.items():
            store.add_dataset(file.require_group("fit"), name, data=values)


def nan_in_model(path):
    arrays = load_file(path)
    arrays["w"][0, 0] = np.nan
    save_file(arrays, path)


def other_schema(path):
    with h5py.File(path, "r") as file:
        found = store.header(file)
    with store.create_h5(path, "activations/2", found.spec, found.inputs) as file:
        store.add_dataset(file, "x", data=1)


def of_seed(number):
    """Puts the twin of another seed in its place."""

    def swap(path):
        other = Path(str(path).replace("/seed0/", f"/seed{number}/"))
        mine, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)

    return swap


def remove(path):
    path.unlink()


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


def second_line(text):
    def edit(path):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([lines[0], text(lines[1]), *lines[2:]]))

    return edit


ACTIVATIONS = at(layout.ACTIVATIONS)
MODEL = f"results/{COHORT}-lm/models/seed0/final"


def letter(path):
    """Another site than the one that was recorded."""
    path.write_text(path.read_text().replace("hook_resid", "hook_rezid", 1))


DAMAGES = [
    (ACTIVATIONS, truncate, "truncated or not an HDF5 file", 1),
    (ACTIVATIONS, edit, "edited or damaged", 1),
    (ACTIVATIONS, nan_in_h5, "'activations' of 'fit' holds NaN", 1),
    (ACTIVATIONS, other_schema, "schema is 'activations/2', expected 'activations/1'", 1),
    (ACTIVATIONS, of_seed(1), "is of seed 1, but lies where seed 0 belongs", 2),
    (ACTIVATIONS, link_to_nothing, "is a link to nothing", 1),
    (at(layout.TOKENS), edit, "edited or damaged", 1),
    (at(layout.MAPS), truncate, "truncated", 1),
    (layout.NULL.format(width=4, draws=600), truncate, "truncated", 1),
    (WEIGHTS, truncate, "truncated or not safetensors", 2),
    (WEIGHTS, edit, "edited or damaged", 1),
    (WEIGHTS, of_seed(1), "is of seed 1, but lies where seed 0 belongs", 4),
    (WEIGHTS, remove, "is missing, but cfg.json", 1),
    (CFG, remove, "is missing, but sae_weights.safetensors", 1),
    (CFG, truncate, "not readable JSON", 1),
    (CFG, of_seed(1), "does not belong to sae_weights.safetensors", 2),
    (f"{PORT}/sae_weights.safetensors", edit, "edited or damaged", 1),
    (f"{PORT}/card.csv", remove, "is missing", 1),
    (METRICS, truncate, "cut short", 1),
    (METRICS, digit, "is not what its job wrote", 1),
    (METRICS, of_seed(1), "is of seed 1, but the file lies where seed 0 belongs", 2),
    (METRICS, second_line(lambda line: line.replace("0.5", "nan")), "value is 'nan'", 1),
    (METRICS, second_line(lambda line: line.replace("0.5", "0.5x")), "value is '0.5x'", 1),
    (METRICS, second_line(lambda line: line.replace(",", ";", 1)), "line 2 is cut short", 1),
    (METRICS, lambda path: path.write_bytes(b""), "the header is None", 1),
    (METRICS, lambda path: path.write_bytes(path.read_bytes()[:-1]), "last line is cut short", 1),
    (METRICS, lambda path: path.write_bytes(b"\xff\xfe"), "not a readable table", 1),
    (CONDITION, second_line(lambda line: line.replace("distinct", "shared")), "of init shared", 1),
    (LATENTS, second_line(lambda line: line.replace(",3',", ",3,")), "is of condition 3,", 1),
    (RETRAINED, second_line(lambda line: line.replace("0.5", "x")), "value is 'x'", 1),
    (f"{REPORT}/tables/fits.csv", digit, "is not what its job wrote", 1),
    (f"{REPORT}/index.html", truncate, "is cut short", 1),
    (f"{REPORT}/figures/ladder.png", truncate, "not a whole PNG", 1),
    (f"{REPORT}/figures/ladder.png", lambda path: flip(path, 0.4), "not a whole PNG", 1),
    (f"{REPORT}/figures/ladder.svg", truncate, "not a readable SVG", 1),
    (at(CHECKPOINTS), edit, "edited or damaged", 1),
    (at(CHECKPOINTS), of_seed(1), "is of seed 1, but lies where seed 0 belongs", 2),
    (at(layout.DIRECTIONS), remove, "is missing", 1),
    (at(layout.PASSES), truncate, "not readable JSON", 1),
    (at(layout.PASSES), letter, "is damaged", 1),
    (f"{MODEL}/model.safetensors", edit, "edited or damaged", 1),
    (f"{MODEL}/model.safetensors", nan_in_model, "edited or damaged", 1),
    (f"{MODEL}/model.safetensors", remove, "is missing", 1),
    (f"{MODEL}/config.json", truncate, "not readable", 1),
    (f"{MODEL}/tokenizer.json", remove, "is missing", 1),
]


@pytest.mark.parametrize(
    ("name", "damage", "said", "n"),
    DAMAGES,
    ids=[f"{Path(name).name}-{number}" for number, (name, *_) in enumerate(DAMAGES)],
)
def test_damage_is_found_and_named(copy, name, damage, said, n):
    damage(copy / name)
    found = problems(copy)
    # What no rule makes is to be deleted.
    (own,) = [one for one in found if name == one.again or copy / name == one.delete]
    assert own.said.startswith(f"{copy / name}: ")
    assert said in own.said
    assert len(found) == n, [problem.said for problem in found]


@pytest.mark.parametrize(
    ("name", "folder"),
    [(".left.csv.elsewhere-1.tmp", False), (".tmpabc.tmp", True), (".left.h5.123.tmp", False)],
)
def test_what_a_killed_job_left_is_found(copy, name, folder):
    path = copy / "results" / COHORT / name
    if folder:
        path.mkdir()
        (path / "part").write_text("half")
    else:
        path.write_text("half")
    (found,) = problems(copy)
    assert found.delete == path
    assert "left half written" in found.said
    assert verify.commands(copy / "results", [found]) == (f"rm -r {path}",)


def test_the_state_of_a_job_that_has_not_ended_is_none(copy):
    weights = copy / WEIGHTS
    state = weights.with_name(f".{weights.name}.resume")
    state.write_text("")
    os.utime(state, ns=(0, 0))
    (found,) = problems(copy)
    assert found.delete == state
    assert "has ended" in found.said
    # A run that has not come so far.
    shutil.rmtree(weights.parent)
    weights.parent.mkdir()
    state.write_text("")
    found = verify.check(copy / "results")
    assert found.unfinished == [state]
    assert found.problems == []


def test_what_is_made_from_others_than_those_there_is_found(copy):
    """Activations made anew from other tokens: whole in themselves, but not what the SAE was trained on."""
    path = copy / ACTIVATIONS
    with h5py.File(path, "r") as file:
        found = store.header(file)
    with store.create_h5(path, found.schema, found.spec, {**found.inputs, "tokens": "0" * 32}) as f:
        store.add_dataset(f.create_group("fit"), "activations", data=np.ones((3, WIDTH)))
    for log in copy.rglob("*.log"):
        log.unlink()
    said = {problem.again: problem.said for problem in problems(copy)}
    assert set(said) == {ACTIVATIONS, WEIGHTS, at(layout.MAPS)}
    assert "tokens.h5 has" in said[ACTIVATIONS]
    assert "was made from a file with digest" in said[WEIGHTS]
    path.unlink()
    # Deleted after its last reader, as `keep_activations: false` does.
    assert problems(copy) == []


def test_a_model_of_another_anchor_is_found(copy):
    path = copy / at(CHECKPOINTS, 1)
    spec, arrays = {"cohort": COHORT, "seed": 1}, {"final/W": np.ones((3, 3), np.float32)}
    store.write_tensors(path, arrays, CHECKPOINTS_SCHEMA, spec, {"anchor": "0" * 32})
    for log in copy.rglob("*.log"):
        log.unlink()
    said = [problem.said for problem in problems(copy)]
    assert any("anchor that is none of the cohort's models" in text for text in said)


def test_files_of_others_are_told_apart(copy):
    (copy / "results/notes.txt").write_text("mine")
    found = verify.check(copy / "results")
    assert [path.name for path in found.unknown] == ["notes.txt"]
    assert found.problems == []


def test_links_to_folders_are_not_followed(copy):
    (copy / "results/loop").symlink_to(copy / "results")
    assert verify.check(copy / "results").files == 39


def test_the_verb_names_all_and_exits_with_2(copy, monkeypatch, capsys):
    truncate(copy / ACTIVATIONS)
    (copy / CFG).unlink()
    (copy / "results/.x.tmp").mkdir()
    monkeypatch.chdir(copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert cli.main(["verify", "results"]) == 2
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    out, err = capsys.readouterr()
    assert "crossseed verify: results: 3 problems in " in err
    lines = out.splitlines()
    assert f"    snakemake --cores 1 --force {CFG}" in lines
    assert lines[-2:] == [
        "rm -r results/.x.tmp",
        f"snakemake --cores 1 --force {ACTIVATIONS} {CFG}",
    ]


def test_commands_from_elsewhere_say_where(copy, monkeypatch):
    monkeypatch.chdir("/")
    truncate(copy / ACTIVATIONS)
    (command,) = verify.commands(copy / "results", problems(copy), [Path("a b.yaml")])
    assert command == (
        f"snakemake --cores 1 --directory {copy} --configfile 'a b.yaml' --force {ACTIVATIONS}"
    )


def test_artefacts_are_held_against_a_configuration(tmp_path, monkeypatch, capsys):
    config = Path(__file__).parent.parent / "config/smoke.yaml"
    run, cohort = load_files(config), "smoke-shared"
    told = {"cohort": cohort, "seed": 1, "checkpoint": "final"}
    spec = {**specs.extract(run, **told), "site": SITE}
    spec["source"] = store.source_of(spec["origin"], SITE)
    for path, schema, of in (
        (at(layout.TOKENS, cohort=cohort), TOKENS_SCHEMA, specs.tokens(run, cohort)),
        (at(layout.ACTIVATIONS, 1, cohort=cohort), ACTIVATIONS_SCHEMA, spec),
        # Cells that the run does not have are of another one.
        (at(layout.TOKENS, cohort="other"), TOKENS_SCHEMA, {"seed": 3}),
        (at(layout.ACTIVATIONS, 7, cohort=cohort), ACTIVATIONS_SCHEMA, {**spec, "seed": 7}),
    ):
        with store.create_h5(tmp_path / path, schema, of, {}) as file:
            store.add_dataset(file, "x", data=1)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "results", "--configfile", str(config)]) == 0
    changed = tmp_path / "changed.yaml"
    changed.write_text(config.read_text().replace("lengths: [4, 20]", "lengths: [4, 19]"))
    capsys.readouterr()
    assert cli.main(["verify", "results", "--configfile", str(changed)]) == 2
    out = capsys.readouterr().out
    assert "tokens.h5: was made with lengths = [4, 20], but the configuration says [4, 19]" in out
    assert "with origin (a digest of model, tokens, and the code that made both)" in out
    assert f"--configfile {changed} --force results/{cohort}/activations/seed1/" in out


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="is no folder; give the folder of results"):
        verify.check(tmp_path / "none")


def test_memory_does_not_grow_with_a_file(tmp_path):
    rows = 1 << 20
    path = tmp_path / "results" / at(layout.ACTIVATIONS).removeprefix("results/")
    spec = {**cell(0), "source": "x"}
    with store.create_h5(path, ACTIVATIONS_SCHEMA, spec, {}) as file:
        group = file.create_group("fit")
        data = store.add_dataset(
            group, "activations", shape=(rows, 32), dtype="float32", chunks=(4096, 32)
        )
        for start in range(0, rows, 1 << 16):
            data[start : start + (1 << 16)] = 1.0
    assert path.stat().st_size > 1 << 27
    tracemalloc.start()
    assert problems(tmp_path) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 26


def test_every_template_of_the_layout_is_known():
    """A file that a new study writes is looked at too."""
    names = {
        name: value
        for name, value in vars(layout).items()
        if name.isupper() and isinstance(value, str) and value.startswith("results/")
    }
    known = " ".join(kind.template for kind in KINDS)
    folders = {"MODEL", "MODEL_FOLDER", "MODEL_TABLE", "TOKENIZER", "DICTIONARY_SITE"}
    folders |= {"PORT", "DELPHI", "REPORT", "DICTIONARY_OF_SOURCE", "JOINT_PAIR"}
    for name, value in names.items():
        assert name in folders or value in known, f"{name} = {value}: add it to verify/places.py"
    templates = {kind.template for kind in KINDS}
    assert {template for group in TOGETHER for template in group} <= templates


@pytest.mark.parametrize(
    ("path", "template"),
    [
        (f"results/a/fits/seed0-seed1/final/{SITE}.csv", layout.FITS),
        (f"results/a/fits/seed0-seed1/final/{SITE}-directions.csv", layout.DIRECTIONS),
        ("results/a/fits/seed0-seed1/final-shared.csv", layout.SHARED),
        (f"results/a/stability/seed0/final/{SITE}/topk-x2.csv", layout.STABILITY),
        (f"results/a/stability/seed0-seed1/final/{SITE}/topk-x2.csv", layout.BRIDGE),
        (f"results/a/dictionaries/seed0/final/{SITE}/topk-x2-seed3.csv", layout.SEED_METRICS),
        ("results/reports/r/tables/over_seeds.csv", layout.OVER_SEEDS),
        ("results/reports/r/tables/haar.csv", layout.TABLE),
    ],
)
def test_paths_are_told_apart(path, template):
    found = place_of(path)
    assert found is not None
    assert found.kind.template == template
    assert found.kind.columns


def test_it_does_without_torch():
    script = "import sys, crossseed.verbs.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
