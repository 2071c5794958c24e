"""Runs cases of `bad_inputs/cases.yaml`, each in a folder of its own, as a program:

    python tests/refusals.py light|heavy FOLDER

and prints a JSON line a case: what was said, whether anything that lay there is another than before. With
``light`` PyTorch and transformers cannot be imported: these messages come before any of their work. With ``heavy``
no weights of a model can be loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml

HERE = Path(__file__).parent / "bad_inputs"
# Of language models nothing may be loaded, but their configurations are read by transformers.
HEAVY = {"model", "dictionary"}
FORBIDDEN = ("torch", "transformers", "datasets", "accelerate")
SITE = "blocks.0.hook_resid_pre"


def cases():
    return yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))


def is_light(case):
    return case["as"] not in HEAVY or case.get("light", False)


class Forbid:
    """Refuses the import of what computes."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise AssertionError(f"{name} was imported")


class Runs:
    """A pickle that leaves a file behind when it is loaded."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def state(folder):
    """Every path below a folder, with its content, and the time of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        what = path.lstat()
        content = b""
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        # A folder's time changes with what comes and goes in it, as temporary files do.
        when = 0 if path.is_dir() else what.st_mtime_ns
        found[str(path.relative_to(folder))] = [what.st_mode, when, digest]
    return found


# --- what cannot lie in a repository as it is -------------------------------------------


def made_corpus(folder, how):
    folder.mkdir(parents=True)
    if how == "link-of-itself":
        (folder / "loop").symlink_to("loop")
    elif how == "link-up":
        (folder / "a.txt").write_text("text")
        (folder / "again").symlink_to("..")
    elif how == "link-to-zero":
        (folder / "zero").symlink_to("/dev/zero")
    else:
        os.mkfifo(folder / "pipe")


def made_dictionary(folder, how):
    weights = folder / ("ae.pt" if (folder / "config.json").exists() else "sae_weights.safetensors")
    if how == "pickle":
        weights.write_bytes(pickle.dumps(Runs()))
        return
    from safetensors.numpy import save_file

    arrays = {
        "W_enc": np.ones((4, 8), np.float32),
        "b_enc": np.zeros(8, np.float32),
        "W_dec": np.ones((8, 3 if how == "weights-shape" else 4), np.float32),
        "b_dec": np.zeros(4, np.float32),
    }
    if how == "weights-nan":
        arrays["W_enc"][1, 2] = np.nan
    save_file(arrays, weights)


def small_run(root):
    """Activations, dictionaries and a table as the workflow writes them."""
    from crossseed import pairs, store
    from crossseed.activations import ACTIVATIONS_SCHEMA
    from crossseed.sae import dictionary
    from crossseed.sae.architectures.relu_l1 import Config
    from crossseed.tables import COLUMNS

    rng = np.random.default_rng(0)
    recipe = yaml.safe_load((HERE / "base.yaml").read_text())["dictionaries"]["relu"]
    for seed in (0, 1):
        source = f"origin{seed}:{SITE}"
        of = {"cohort": "toy", "seed": seed, "checkpoint": "final", "site": SITE}
        path = root / f"activations{seed}.h5"
        inputs = {"model": "m", "tokens": "t"}
        with store.create_h5(path, ACTIVATIONS_SCHEMA, {**of, "source": source}, inputs) as file:
            for split in ("fit", "eval"):
                group, n = file.create_group(split), 120
                rows = rng.standard_normal((n, 4)).astype(np.float32)
                store.add_dataset(group, "activations", data=rows)
                sequence, position = np.divmod(np.arange(n, dtype=np.int32), 10)
                for name, data in (("sequence", sequence), ("position", position)):
                    store.add_dataset(group, name, data=data)
                store.add_dataset(group, "document", data=sequence)
                store.add_dataset(group, "token", data=np.zeros(n, np.uint8))
        arrays = {
            "W_enc": rng.standard_normal((4, 8)).astype(np.float32),
            "b_enc": np.zeros(8, np.float32),
            "W_dec": rng.standard_normal((8, 4)).astype(np.float32),
            "b_dec": np.zeros(4, np.float32),
        }
        spec = {**of, "dictionary": "relu-x2", "init": "shared", "activations": source}
        cfg = dictionary.cfg_of(Config.model_validate(recipe), 2, 4, SITE)
        dictionary.save(root / f"dictionary{seed}", arrays, cfg, spec, {})
    row = dict.fromkeys(COLUMNS["fits"], "x")
    store.write_table(root / "table.csv", COLUMNS["fits"], [row, row])
    told = pair_spec()
    files = (root / "activations0.h5", root / "activations1.h5", None)
    with pairs.open_readers("fit", *files, told["activations"]) as readers:
        pair = pairs.fit(readers, told, *pairs.cell_of(told))
    pairs.write(root / "maps.h5", pair, {})


def pair_spec():
    both = {"source": f"origin0:{SITE}", "target": f"origin1:{SITE}"}
    cell = {"cohort": "toy", "source_seed": 0, "target_seed": 1, "checkpoint": "final"}
    return {**cell, "site": SITE, "activations": both}


def damage(path, how):
    """Damages one file of a small run; of a dictionary, its weights or its cfg.json."""
    folder = path if path.is_dir() else None
    if how.startswith("cfg-"):
        cfg = path / "cfg.json"
        cfg.unlink() if how == "cfg-missing" else shutil.copy(
            path.with_name("dictionary1") / "cfg.json", cfg
        )
        return
    if how == "other-cell":
        other = path.with_name(path.name.replace("0", "1"))
        if folder:
            shutil.rmtree(path)
            shutil.copytree(other, path)
        else:
            shutil.copy(other, path)
        return
    if folder:
        path = folder / "sae_weights.safetensors"
    data = path.read_bytes()
    if how == "edited":
        # A byte of an array, whose values begin with the first draw.
        at = len(data) - 5
        if path.suffix == ".h5":
            import h5py

            with h5py.File(path, "r") as file:
                at = file["fit/activations"].id.get_offset() + 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif how == "header-edited":
        path.write_bytes(data.replace(b'"seed":0', b'"seed":7'))
    elif how == "header":
        path.write_bytes(data.replace(b"value", b"worth", 1))
    elif how == "cut":
        path.write_bytes(data[: len(data) * 3 // 4] if path.suffix != ".csv" else data[:-8])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "latin-1":
        path.write_bytes(data + "é\n".encode("latin-1"))
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Runs()))
    elif how == "header-without-end":
        path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    elif how in {"other-schema", "nan", "foreign"} and path.suffix == ".h5":
        import h5py

        from crossseed import store

        with h5py.File(path, "r") as file:
            told = store.header(file)
            rows = {split: {k: v[()] for k, v in file[split].items()} for split in file}
        if how == "nan":
            rows["fit"]["activations"][3, 1] = np.nan
        schema = "tokens/1" if how == "other-schema" else told.schema
        with store.create_h5(path, schema, told.spec, told.inputs) as file:
            for split, arrays in rows.items():
                group = file.create_group(split)
                for name, values in arrays.items():
                    store.add_dataset(group, name, data=values)
        if how == "foreign":
            with h5py.File(path, "r+") as file:
                del file.attrs["schema"]
    elif how == "foreign":
        from safetensors.numpy import save_file

        save_file({"w": np.ones(3, np.float32)}, path)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "loop":
            path.symlink_to(path.name)
        else:
            assert how == "missing", how


# --- how each is read --------------------------------------------------------------------


def told_by_cli(argv):
    """What a verb says; None if it did its work."""
    from crossseed import cli

    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        status = cli.main(argv)
    assert status in (0, 2), status
    return err.getvalue() if status else None


def told_by(call):
    from crossseed.errors import UserError

    try:
        call()
    except UserError as error:
        return str(error)
    return None


def read_config(case):
    return told_by_cli(["plan", "base.yaml", case["file"]])


def read_prompts(case):
    from crossseed.cohorts.text import prompts

    return told_by(lambda: prompts.read(Path(case["file"])))


def read_corpus(case):
    from crossseed.cohorts.text import corpus
    from crossseed.cohorts.text.config import FolderCorpus

    told = FolderCorpus(
        source="folder",
        path=str(Path(case["file"], case.get("below", ""))),
        text_field="text",
        min_characters=case.get("min_characters", 0),
    )
    return told_by(lambda: list(corpus.documents(told)))


def read_model(case):
    name = case["file"].removeprefix("models/")
    spec = {"kind": "hub", "folder": "models", "family": "gpt_neox", "width": 16, "layers": 3}
    spec |= {"tokenizer": name, "context": 16}
    argv = ["check", "--spec", json.dumps(spec), "--members", f"seed1/final={name}"]
    said = told_by_cli([*argv, "--out", "new.csv"])
    Path("new.csv").unlink(missing_ok=True)
    return said


def read_dictionary(case):
    from crossseed.sae import formats

    return told_by(lambda: formats.read(Path(case["file"])))


def read_fetch(case):
    from crossseed.sae import formats

    return told_by(lambda: formats.fetch(case["file"]))


def read_vector(case):
    from crossseed import vectors

    return told_by(lambda: vectors.read(Path(case["file"])))


def read_artefact(case):
    spec = pair_spec()
    if case["file"].endswith("table"):
        argv = ["collect", "--spec", '{"table": "fits"}', "--cells", "results/table.csv"]
    elif case["file"].endswith("activations"):
        argv = ["align", "--spec", json.dumps(spec)]
        argv += ["--source", "results/activations0.h5", "--target", "results/activations1.h5"]
    else:
        argv = ["cosine", "--spec", json.dumps(spec), "--maps", "results/maps.h5"]
        argv += ["--source", "results/dictionary0", "--target", "results/dictionary1"]
    return told_by_cli([*argv, "--out", "results/new"])


READERS = {name.removeprefix("read_"): of for name, of in globals().items() if "read_" in name}


def laid_out(case, folder, run):
    """The case's files in a folder, beside results that are there already."""
    (folder / "results").mkdir(parents=True)
    (folder / "results/kept.txt").write_text("kept")
    shutil.copy(HERE / "base.yaml", folder)
    source, target = HERE / case["file"], folder / case["file"]
    target.parent.mkdir(parents=True, exist_ok=True)
    if case["as"] == "artefact":
        shutil.copytree(run, folder / "results", dirs_exist_ok=True)
        of = {"activations": "activations0.h5", "dictionary": "dictionary0", "table": "table.csv"}
        damage(folder / "results" / of[target.name], case["made"])
        return
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy(source, target)
    made = case.get("made")
    if case["as"] == "corpus" and made:
        made_corpus(target, made)
    elif case["as"] == "dictionary" and made:
        made_dictionary(target, made)
    elif made == "pickled-array":
        np.save(target, np.array([Runs()], dtype=object), allow_pickle=True)


def main(weight, root):
    root = Path(root)
    run = root / "run"
    small_run(run)
    if weight == "light":
        for name in FORBIDDEN:
            assert name not in sys.modules, name
        sys.meta_path.insert(0, Forbid())
    else:
        from crossseed.cohorts.hub import loading

        def refuse(*_args, **_options):
            raise AssertionError("weights were loaded")

        loading._load = refuse
    for case in cases():
        if is_light(case) != (weight == "light"):
            continue
        folder = root / case["name"]
        laid_out(case, folder, run)
        os.chdir(folder)
        before = state(folder)
        try:
            said = READERS[case["as"]](case)
        except Exception as error:
            said = f"not a sentence: {type(error).__name__}: {error}"[:2000]
        after = state(folder)
        changed = [path for path in before if after.get(path) != before[path]]
        new = [path for path in after if path not in before]
        found = {"name": case["name"], "said": said, "changed": changed, "new": new}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
