"""A site added later is read in a pass of its own."""

import pytest

from crossseed import passes
from crossseed.errors import UserError


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


@pytest.mark.parametrize(
    "how",
    [lambda text: "{", lambda text: "1", lambda text: text.replace('"a"', '"b"'), lambda _: "[7]"],
)
def test_a_damaged_record_is_refused(tmp_path, how):
    path = tmp_path / "p.json"
    passes.record(path, ["a"])
    path.write_text(how(path.read_text()))
    with pytest.raises(UserError, match=r"p\.json: is damaged"):
        passes.planned(path, ["a"])


def test_checks_of_many_members_keep_their_numbers_in_whatever_order_they_end(tmp_path):
    path, members = tmp_path / "passes.json", [*"abcdefg"]
    checks = [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert passes.planned(path, members, most=3) == checks
    for number in (1, 2, 0):
        passes.record(path, checks[number], number)
        assert passes.planned(path, members, most=3) == checks
    assert passes.recorded(path) == checks
    # Members added later are checked by themselves, those no longer wanted leave no number open.
    assert passes.planned(path, [*"abcghi"], most=3) == [["a", "b", "c"], [], ["g"], ["h", "i"]]
    passes.record(path, ["h"], 1)
    assert passes.recorded(path) == [*checks, ["h"]]


def test_a_record_from_before_there_were_digests_is_read(tmp_path):
    (tmp_path / "p.json").write_text('[["a"], ["b"]]')
    passes.record(tmp_path / "p.json", ["c"])
    assert passes.recorded(tmp_path / "p.json") == [["a"], ["b"], ["c"]]
