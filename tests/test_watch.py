"""What a run says of itself: what is done and failed, in words, and the command that goes on."""

from pathlib import Path

import pytest

from crossseed import progress
from crossseed.config.load import load_files
from crossseed.estimate import seconds_of
from crossseed.watch import told
from crossseed.watch.board import BLOCKED, DONE, FAILED, RUNNING, WAITING, Board
from crossseed.watch.left import Interval, Kind


def test_a_failure_blocks_what_needs_it_and_nothing_else():
    kind = Kind("a", "")
    board = Board(dict.fromkeys(range(6), kind), {1: [0], 2: [1], 4: [3]}, {}, {}, {})
    board.started(0, [0], 0.0)
    board.ended(0)
    assert board.count[WAITING] == 6  # it may be tried again
    board.started(0, [0], 1.0)
    board.ended(0)
    board.failed([0])
    assert (board.count[FAILED], board.count[BLOCKED], board.count[WAITING]) == (1, 2, 3)
    line = told.line(board, Interval(60, 180), False)
    assert "1 failed, and 2 that need them; 60 s to 3.0 min left" in line
    assert board.waiting[kind] == 3


def test_of_a_batch_that_fails_what_is_whole_is_done_and_the_rest_waits():
    kind = Kind("cell", "")
    board = Board(dict.fromkeys(range(6), kind), {}, {}, {}, {"_nodes": 100.0})
    board.started("batch-x", range(6), 0.0)
    assert board.count[RUNNING] == 6
    board.ended(4)
    for n in (0, 1, 2):
        board.finished(n, 30.0)
    assert (board.count[DONE], board.count[WAITING]) == (3, 3)
    board.started("batch-y", (3, 4, 5), 40.0)
    for n in (3, 4, 5):
        board.finished(n, 70.0)
    assert (board.count[DONE], board._times[kind].mean) == (6, 10.0)
    assert board.left(70.0) == Interval(0.0, 0.0)


def test_a_day_s_log_has_some_two_hundred_lines():
    passed, lines = 0.0, 0
    while passed < 86_400:
        passed += progress.log_seconds(passed)
        lines += 1
    assert 150 < lines < 250
    assert progress.log_seconds(0) == 15


def test_times_in_words():
    words = [progress.in_words(n) for n in (0, 59, 90, 600, 5400, 86_400, 1e6)]
    assert words == ["0 s", "59 s", "1.5 min", "10 min", "1.5 h", "24 h", "12 days"]
    assert told.between(Interval(540, 960)) == "9.0 to 16 min"
    assert told.between(Interval(50, 200)) == "50 s to 3.3 min"
    assert told.between(Interval(60, 60)) == "about 60 s"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--cores", "2"], ["--cores", "2"]),
        (["-F", "--cores", "2", "all"], ["--cores", "2", "all"]),
        (["--forcerun", "train", "sae", "--cores", "2"], ["--cores", "2"]),
        (["-R", "train", "-n", "x"], ["-n", "x"]),
        (["-Rtrain", "-Fn", "--forceal", "--cores", "2"], ["-n", "--cores", "2"]),
        (["--config", "a=b c"], ["--config", "'a=b c'"]),
    ],
)
def test_the_command_that_goes_on_makes_nothing_again(words, kept):
    said = told.going_on(["/nowhere/bin/snakemake", *words], "/a folder", incomplete=True)
    assert said == " ".join(["cd '/a folder' && /nowhere/bin/snakemake", *kept])
    without = told.going_on(["/nowhere/bin/snakemake", *words], "/", incomplete=False)
    assert without.count("--rerun-incomplete") == 1
    again = told.going_on(["/nowhere/bin/snakemake", "--rerun-incomplete"], "/", incomplete=False)
    assert again.count("--rerun-incomplete") == 1


def test_the_end_of_a_log_is_what_was_said_last(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("$ crossseed train --spec x\n" + "".join(f"step {n}\n" for n in range(100)))
    assert told.tail(log) == [f"step {n}" for n in range(85, 100)]
    log.write_text("half: 1/2\rhalf: 2/2\n" + "x" * 1000)
    assert [len(row) for row in told.tail(log)] == [9, 240]
    log.write_bytes(b"\xff\xfe" * 100_000 + b"\nlast\n")
    assert told.tail(log)[-1] == "last"
    log.write_text("$ crossseed train --spec x\n")
    assert "before it said anything" in told.tail(log)[0]
    assert "No such file" in told.tail(tmp_path / "none.log")[0]


def test_rules_have_the_seconds_of_their_verbs():
    run = load_files(Path(__file__).parent.parent / "config/toy-full.yaml")
    for device in ("cpu", "cuda"):
        seconds = seconds_of(run, device)
        assert seconds("train_toy_shared") == seconds("train") > 3
        assert seconds("sae_relu_l1_x8") == seconds("sae") > 3
        assert seconds("report") == seconds("all") == 3
