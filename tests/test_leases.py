"""GPUs are leased: one job a device unless told otherwise, given back by whatever end, and what was used is said.

Devices are made up here; that CUDA then computes on the leased one alone takes a GPU (marker `gpu`).
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from crossseed import cli, devices, driver, failures, leases, usage
from crossseed.errors import UserError
from crossseed.leases import Device
from crossseed.report import times

TWO = [Device("GPU-a", "One", 10), Device("GPU-b", "Two", 10)]


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setattr(leases, "SHARED", folder)
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(devices, "_held", None)
    for name in (leases.SLOTS, leases.VISIBLE):
        # So that what a test leaves in the environment goes with it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return folder


HOLD = """
import pathlib, sys, time
from crossseed import leases
leases.POLL_SECONDS, leases.SHARED = 0.02, pathlib.Path(sys.argv[4])
devices = [leases.Device(uuid, uuid, 1) for uuid in sys.argv[1].split(",")]
held = leases.take(devices, int(sys.argv[2]), every=sys.argv[3] == "all")
print(",".join(d.uuid for d in held.devices), flush=True)
time.sleep(60)
"""


@pytest.fixture
def job(runtime):
    """Starts another process that takes a lease and keeps it."""
    started = []

    def start(uuids, slots=1, every=False, **environment):
        words = [sys.executable, "-c", HOLD, uuids, str(slots), "all" if every else "one", runtime]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        child = subprocess.Popen(words, env=os.environ | environment, **pipes)
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def held_by(child):
    return child.stdout.readline().strip()


def test_a_job_takes_a_device_that_is_free(job):
    first = job("GPU-a,GPU-b")
    assert held_by(first) == "GPU-a"
    lease = leases.take(TWO, 1)
    assert [device.uuid for device in lease.devices] == ["GPU-b"]
    lease.release()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_waits_until_another_ends_however_it_ends(job, how, capfd):
    first = job("GPU-a")
    assert held_by(first) == "GPU-a"
    second = job("GPU-a")
    assert "waiting for a GPU: other jobs hold GPU-a" in second.stderr.readline()
    time.sleep(0.2)
    assert second.poll() is None
    os.kill(first.pid, how)
    assert held_by(second) == "GPU-a"


def test_slots_let_jobs_share_but_an_empty_device_comes_first(job):
    held = [held_by(job("GPU-a,GPU-b", slots=2)) for _ in range(4)]
    assert held == ["GPU-a", "GPU-b", "GPU-a", "GPU-b"]
    fifth = job("GPU-a,GPU-b", slots=2)
    assert "(2 a device; slots_per_gpu)" in fifth.stderr.readline()


def test_a_model_over_all_devices_waits_for_all(job):
    first = job("GPU-b")
    held_by(first)
    both = job("GPU-a,GPU-b", every=True)
    assert "waiting for all GPUs: another job holds GPU-b.0" in both.stderr.readline()
    first.kill()
    assert held_by(both) == "GPU-a,GPU-b"


def test_a_job_of_another_environment_sees_the_same_leases(job, tmp_path):
    """A login, cron and a cluster's job have their own runtime folders and folders for temporary files."""
    assert held_by(job("GPU-a,GPU-b", XDG_RUNTIME_DIR=str(tmp_path))) == "GPU-a"
    assert held_by(job("GPU-a,GPU-b", TMPDIR=str(tmp_path))) == "GPU-b"


def test_locks_lie_in_a_folder_of_the_user_alone(runtime):
    leases.take(TWO, 1).release()
    path = runtime / f"crossseed-{os.getuid()}"
    assert leases.folder() == path
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o777)
    assert leases.folder().stat().st_mode & 0o777 == 0o700


def test_a_folder_for_locks_that_is_not_the_users_is_refused(runtime, tmp_path, monkeypatch):
    path = runtime / f"crossseed-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="or a link or a file, so that locks on GPUs cannot lie"):
        leases.folder()
    path.unlink()
    path.write_text("")
    with pytest.raises(UserError, match="or a link or a file"):
        leases.folder()
    mine = os.getuid()
    monkeypatch.setattr(leases.os, "getuid", lambda: mine + 1)
    with pytest.raises(UserError, match=f"no folder of user {mine + 1} but of user {mine}, or"):
        leases.folder()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_slots_must_be_a_count(text, monkeypatch):
    monkeypatch.setenv(leases.SLOTS, text)
    with pytest.raises(UserError, match=r"CROSSSEED_SLOTS_PER_GPU = '.*': expected a whole number"):
        leases.slots_per_gpu()


@pytest.fixture
def driven(monkeypatch):
    """A driver with some devices, and a PyTorch that finds them."""
    import torch

    def drive(found):
        monkeypatch.setattr(leases, "visible", lambda: list(found))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(found))

    return drive


def test_cuda_is_shown_the_leased_device_alone(driven, job, monkeypatch):
    held_by(job("GPU-a"))
    driven(TWO)
    assert devices.usable("auto") == "cuda"
    assert os.environ[leases.VISIBLE] == "GPU-b"
    # Once a process: a second model of the same job is on the same device.
    assert devices.usable("cuda") == "cuda"
    assert devices.usage()._replace(device_seconds=0.0) == devices.Usage("Two", 1, 0.0, 0)


def test_a_device_that_the_user_left_visible_alone_stays_as_named(driven, monkeypatch):
    monkeypatch.setenv(leases.VISIBLE, "3")
    driven(TWO[:1])
    assert devices.usable("cuda") == "cuda"
    assert os.environ[leases.VISIBLE] == "3"


def test_a_spread_model_keeps_all_visible(driven):
    driven(TWO)
    assert devices.usable("cuda", spread=True) == "cuda"
    assert leases.VISIBLE not in os.environ
    assert devices.usage().devices == 2


def test_without_a_device_nothing_is_leased(driven, runtime):
    driven([])
    assert devices.usable("auto") == "cpu"
    assert devices.usable("cpu") == "cpu"
    with pytest.raises(UserError, match=r"device is cuda, but PyTorch .* finds none"):
        devices.usable("cuda")
    assert devices.usage() is None
    assert not list(runtime.iterdir())


def test_on_a_cpu_no_lease_is_taken_even_with_devices(driven, runtime):
    driven(TWO)
    assert devices.usable("cpu") == "cpu"
    assert not list(runtime.iterdir())


def test_a_driver_that_cannot_be_asked_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "driver.py"
    broken.write_text("raise SystemExit('no such device')")
    monkeypatch.setattr(driver, "library", lambda: object())
    monkeypatch.setattr(driver, "__file__", str(broken))
    with pytest.raises(UserError, match=r"cannot be asked for its devices .no such device.; mend"):
        leases.visible()
    broken.write_text('print(\'[{"uuid": "GPU-a", "name": "One", "bytes": 10}]\')')
    assert leases.visible() == TWO[:1]


# --- what ran out, and what was used ------------------------------------------------------


class Verb:
    """A verb that fails."""

    def __init__(self, error):
        self.error = error

    def add_arguments(self, parser):
        pass

    def run(self, args):
        raise self.error


def out_of_gpu_memory():
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


@pytest.mark.parametrize(
    ("verb", "error", "said"),
    [
        ("sae", out_of_gpu_memory(), ["GPU's memory ran out", "2.00 GiB", "batch_tokens or"]),
        ("sae", out_of_gpu_memory(), ["slots_per_gpu", "device: cpu"]),
        ("extract", RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when"), ["model.device_map: auto"]),
        ("train", out_of_gpu_memory(), ["training.batch_rows"]),
        ("stability", MemoryError("Unable to allocate 3 TiB"), ["main memory", "3 TiB", "seeds"]),
        ("fits", OSError(28, "No space left on device", "results/x.csv"), ["disk", "results/x"]),
        (
            "fits",
            OSError("Can't write (errno = 28, error message)"),
            ["disk is full", "free space"],
        ),
        (
            "extract",
            RuntimeError("failed, filename = '/r/.a.h5.host-12.tmp', errno = 28, message"),
            ["disk is full", "(/r/a.h5)"],
        ),
    ],
)
def test_what_ran_out_is_said_with_the_setting_to_change(verb, error, said, monkeypatch, capsys):
    monkeypatch.setattr(cli, "imported", lambda name: Verb(error))
    assert cli.main([verb]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"crossseed {verb}: ")
    assert "Traceback" not in err
    for words in said:
        assert words in err


def test_other_errors_keep_their_traceback(monkeypatch):
    error = RuntimeError("a defect")
    monkeypatch.setattr(cli, "imported", lambda name: Verb(error))
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main(["fits"])
    assert failures.sentence(OSError(2, "No such file"), "fits") is None
    assert failures.sentence(OSError("os error 2"), "fits") is None


def test_every_verb_on_a_device_says_what_to_lower():
    import importlib

    class Parser:
        def __init__(self):
            self.options = []

        def add_argument(self, *names, **_):
            self.options += names

        add_argument_group = add_mutually_exclusive_group = lambda self, *_, **__: self

    for verb in cli.JOB_VERBS:
        parser = Parser()
        importlib.import_module(f"crossseed.verbs.{verb}").add_arguments(parser)
        if "--device" in parser.options:
            assert verb in failures.LOWER, verb


def test_a_job_on_a_gpu_says_what_it_took_and_the_report_sums_it(
    driven, monkeypatch, capsys, tmp_path
):
    class Computes(Verb):
        def run(self, args):
            devices.usable("cuda")

    driven(TWO[:1])
    monkeypatch.setattr(cli, "imported", lambda name: Computes(None))
    assert cli.main(["sae"]) == 0
    log = capsys.readouterr().out
    told = json.loads(log.splitlines()[-1].removeprefix("used "))
    assert told.keys() == {"device", "devices", "device_seconds", "peak_gpu_bytes"}
    assert (told["device"], told["devices"]) == ("One", 1)
    logs = tmp_path / "results/toy/logs"
    for number, seconds in enumerate((1.5, 2.5)):
        path = logs / f"sae/seed{number}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        peak = 10**9 * (number + 1)
        line = {"device": "One", "devices": 1, "device_seconds": seconds, "peak_gpu_bytes": peak}
        path.write_text(f"$ crossseed sae\nused {json.dumps(line)}\n")
    (logs / "align.log").write_text("$ crossseed align\nused {cut off")
    assert usage.of_stages(tmp_path / "results", ["toy", "none"]) == {
        "sae": usage.Spent(4.0, 2 * 10**9, frozenset(["One"]))
    }
    benchmarks = tmp_path / "results/toy/benchmarks"
    for stage in ("sae", "align"):
        (benchmarks / stage).mkdir(parents=True)
        (benchmarks / stage / "a.tsv").write_text("s\tmax_rss\n2.0\t100.5\n")
    of = {stage.name: stage.gpu for stage in times.of_run(tmp_path / "results", "r", ["toy"])}
    assert of["train and measure SAEs"].seconds == 4.0
    assert of["take moments of pairs"] == usage.NOTHING


def test_jobs_inherit_how_many_share_a_gpu():
    from crossseed import environment

    environment.share_gpus(2)
    assert leases.slots_per_gpu() == 2
    # What the user's environment says wins over the configuration.
    environment.share_gpus(3)
    assert leases.slots_per_gpu() == 2


@pytest.mark.gpu
def test_a_real_device_is_found_and_leased():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    (first, *_) = leases.visible()
    assert first.uuid.startswith(("GPU-", "MIG-"))
    assert first.bytes > 1 << 30
    script = (
        "from crossseed import devices; import torch; print(devices.usable('cuda'));"
        " x = torch.ones(1 << 20, device='cuda'); print(devices.usage().peak_gpu_bytes >= x.nbytes)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert said.stdout.split() == ["cuda", "True"], said.stderr
