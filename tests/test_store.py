"""Artefacts: whole or absent, equal bytes for equal content, and refused by name when damaged."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from crossseed import atomic, store
from crossseed.errors import UserError

SPEC = {"b": 2, "a": [1, 2]}


def make_h5(path, scale=1.0):
    rng = np.random.default_rng(0)
    with store.create_h5(path, "thing/1", SPEC, {"in": "abc"}) as file:
        group = file.create_group("eval")
        store.add_dataset(group, "x", data=scale * rng.standard_normal((50, 4)))
        store.add_dataset(group, "n", data=7)
        store.add_dataset(file.create_group("fit"), "x", data=np.arange(10))


def make_tensors(path):
    store.write_tensors(path, {"a/w": np.ones((2, 3), np.float32), "b/w": np.zeros(4, np.float32)},
                        "weights/1", SPEC, {})  # fmt: skip


def test_equal_content_gives_equal_bytes(tmp_path):
    for make, suffix in ((make_h5, "h5"), (make_tensors, "safetensors")):
        for name in "ab":
            make(tmp_path / f"{name}.{suffix}")
        one, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert one == other


def test_header_and_content_come_back(tmp_path):
    make_h5(tmp_path / "a.h5")
    with store.open_h5(tmp_path / "a.h5", "thing/1") as file:
        found = store.header(file)
        assert (found.spec, found.inputs, found.schema) == (SPEC, {"in": "abc"}, "thing/1")
        assert file["eval/n"][()] == 7
    make_tensors(tmp_path / "a.safetensors")
    tensors, found = store.read_tensors(tmp_path / "a.safetensors", "weights/1", prefix="a/")
    assert list(tensors) == ["w"]
    assert found.spec == SPEC


def test_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.h5"
    make_h5(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError), store.create_h5(path, "thing/1", SPEC, {}) as file:
        file.create_group("eval")
        raise RuntimeError
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def ended_process():
    """The number of a process that is no more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_killed_writer_left_goes_when_the_file_is_written_again(tmp_path, folder):
    path = tmp_path / "a.csv"
    ours = f"{os.getpid()}.tmp"
    beside = atomic._temporary(path).name.removesuffix(ours)
    dead, alive = f"{ended_process()}.tmp", f"{os.getppid()}.tmp"
    names = {
        "dead": beside + dead,
        "alive": beside + alive,
        "another machine": f".a.csv.elsewhere-{dead}",
        "another file": beside.replace("a.csv", "b.csv") + dead,
    }
    for name in names.values():
        if folder:
            (tmp_path / name).mkdir()
            (tmp_path / name / "part").write_text("half")
        else:
            (tmp_path / name).write_text("half")
    store.write_table(path, ("a",), [{"a": 1}])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.csv", *names.values()} - {names["dead"]}


def test_a_job_says_what_it_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "WRITTEN", [])
    store.write_table(tmp_path / "a.csv", ("a",), [{"a": 1}])
    with atomic.move_into_place([tmp_path / "x.json", tmp_path / "y.json"]) as folder:
        for name in ("x.json", "y.json", "z.json"):
            (folder / name).write_text("{}")
    with pytest.raises(RuntimeError), atomic.writing(tmp_path / "b.csv"):
        raise RuntimeError
    assert [path.name for path in atomic.WRITTEN] == ["a.csv", "x.json", "y.json"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "x.json", "y.json"}


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_last_third(path):
    data = bytearray(path.read_bytes())
    for i in range(2 * len(data) // 3, 2 * len(data) // 3 + 16):
        data[i] ^= 0xFF
    path.write_bytes(bytes(data))


def edit_array(path):
    with h5py.File(path, "r+") as file:
        file["eval/x"][3, 1] += 1


def edit_spec(path):
    with h5py.File(path, "r+") as file:
        file.attrs["spec"] = '{"a":[1,3],"b":2}'


def foreign(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = np.ones(3)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, edit_array, edit_spec, foreign, remove])
def test_damaged_hdf5_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "a.h5"
    make_h5(path)
    damage(path)
    with pytest.raises(UserError, match=r"a\.h5: .*run again"), store.open_h5(path, "thing/1"):
        pass


def test_hdf5_checks_only_what_is_read_when_asked(tmp_path):
    path = tmp_path / "a.h5"
    make_h5(path)
    edit_array(path)
    with store.open_h5(path, "thing/1", verify=["fit"]) as file:
        assert file["fit/x"][:].sum() == 45


def test_other_schema_is_refused(tmp_path):
    make_h5(tmp_path / "a.h5")
    with (
        pytest.raises(UserError, match=r"schema is 'thing/1', expected 'thing/2'"),
        store.open_h5(tmp_path / "a.h5", "thing/2"),
    ):
        pass
    make_tensors(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="schema"):
        store.read_tensors(tmp_path / "a.safetensors", "weights/2")


@pytest.mark.parametrize("damage", [truncate, flip_last_third, remove])
def test_damaged_tensors_are_refused_by_name(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    make_tensors(path)
    damage(path)
    with pytest.raises(UserError, match=r"a\.safetensors: .*run again"):
        store.read_tensors(path, "weights/1")


def test_foreign_tensors_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.ones(3, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="not written by crossseed"):
        store.read_tensors(tmp_path / "a.safetensors", "weights/1")


def test_non_finite_tensors_are_never_written(tmp_path):
    with pytest.raises(UserError, match="NaN"):
        store.write_tensors(tmp_path / "a", {"w": np.array([np.nan], np.float32)}, "x/1", {}, {})
    assert not list(tmp_path.iterdir())


def test_tables_read_back_exactly_and_refuse_other_headers(tmp_path):
    path = tmp_path / "t.csv"
    value = 0.1 + 0.2
    store.write_table(path, ("a", "b"), [{"a": "x", "b": value}, {"a": "y", "b": float("nan")}])
    rows = store.read_table(path, ("a", "b"))
    assert float(rows[0]["b"]) == value
    assert rows[1]["b"] == ""
    with pytest.raises(UserError, match=r"t\.csv: the header"):
        store.read_table(path, ("a", "c"))
    path.write_text("a,b\nx\n")
    with pytest.raises(UserError, match=r"t\.csv: line 2"):
        store.read_table(path, ("a", "b"))


@pytest.mark.parametrize("read", [store.read_table, store.read_frame])
def test_tables_that_are_cut_are_refused_wherever_the_cut_is_seen(tmp_path, read):
    path = tmp_path / "t.csv"
    store.write_table(path, ("a", "b"), [{"a": "x", "b": 0.125}, {"a": "y", "b": 12.5}])
    whole = path.read_bytes()
    assert len(read(path, ("a", "b"))) == 2
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        # Between two lines a table's form does not tell.
        if whole[:n].endswith(b"\n"):
            assert len(read(path, ("a", "b"))) < 2
        else:
            with pytest.raises(UserError, match=r"t\.csv: "):
                read(path, ("a", "b"))


def test_canonical_json_is_sorted_and_refuses_nan():
    assert store.canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        store.canonical_json(float("nan"))
    with pytest.raises(TypeError):
        store.canonical_json({1, 2})
