"""Every planted damage of a file is found and named, with the command that mends it."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from written_folder import (
    ACTIVATIONS,
    CFG,
    CONDITION,
    LATENTS,
    METRICS,
    MODEL,
    PORT,
    REPORT,
    RETRAINED,
    WEIGHTS,
    at,
    copy,
    problems,
    truncate,
    whole,
)

from crossseed import layout, store
from crossseed.cohorts.dyck.config import CHECKPOINTS

__all__ = ["copy", "whole"]


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
