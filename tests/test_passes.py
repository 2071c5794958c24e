"""A site added later is read in a pass of its own."""

from crossseed import passes


def test_sites_added_later_get_their_own_pass(tmp_path):
    path = tmp_path / "activations" / "passes.json"
    assert passes.planned(path, ["a", "b"]) == [["a", "b"]]
    passes.record(path, ["a", "b"])
    assert passes.planned(path, ["a", "b"]) == [["a", "b"]]
    assert passes.planned(path, ["c", "a", "b"]) == [["a", "b"], ["c"]]
    passes.record(path, ["c"])
    passes.record(path, ["a", "b"])
    assert passes.recorded(path) == [["a", "b"], ["c"]]
    # A site no longer wanted leaves its pass, and comes back to it.
    assert passes.planned(path, ["b", "c"]) == [["b"], ["c"]]
    assert passes.planned(path, ["a", "b", "c", "d"]) == [["a", "b"], ["c"], ["d"]]


def test_a_broken_record_is_no_record(tmp_path):
    (tmp_path / "p.json").write_text("{")
    assert passes.planned(tmp_path / "p.json", ["a"]) == [["a"]]
