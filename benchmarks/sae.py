"""Training of SAEs: tokens a second of this project and its peers, beside what comes of it; and SAELens's own reading of
the folders that are written.

Each contestant is a process that takes jobs one after another (`contestants/worker.py`); they alternate, so that a slow
minute of the machine hits all of them.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import h5py
import numpy as np

from crossseed import card
from crossseed.alignment.maps import AffineMap, haar_orthogonal
from crossseed.sae import formats
from crossseed.sae.architectures import module_of
from crossseed.sae.dictionary import PER_LATENT, Dictionary, cfg_of, load, save
from crossseed.sae.formats.foreign import Foreign
from crossseed.sae.training import initial_arrays

CONTESTANTS = Path(__file__).parent / "contestants"
# `rates`: tokens a second of each repeat, of the processor with one thread, by the clock with more and on a GPU.
COLUMNS = (
    *("device", "threads", "d", "n_latents", "architecture", "k", "batch", "steps", "contestant"),
    *("rates", "tokens_per_s", "loss", "ev", "l0", "dead_share", "repeats", "machine"),
)
CEILING = "five dense products"
# Programs in `contestants`, by name.
OURS = {
    "crossseed": "crossseed_trainer.py",
    "dense loop": "dense_loop.py",
    CEILING: "dense_products.py",
}
PEERS = {
    "SAELens": "saelens_trainer.py",
    "eai-sparsify": "sparsify_trainer.py",
    "dictionary-learning": "dictionary_learning_trainer.py",
}
HELD_OUT = 2048
QUALITY = ("loss", "ev", "l0", "dead_share")


class Size(NamedTuple):
    """One size of SAE, batch in tokens; one step more is taken, which is not timed."""

    d: int
    n_latents: int
    k: int
    batch: int
    steps: int
    repeats: int


# Fewer steps of the larger, so that all of it takes half an hour on two cores.
SIZES = (
    Size(64, 512, 16, 1024, 200, 3),
    Size(64, 512, 16, 4096, 100, 3),
    Size(64, 4096, 16, 4096, 12, 3),
    Size(64, 16384, 16, 4096, 3, 3),
    Size(512, 512, 32, 4096, 24, 3),
    Size(512, 4096, 32, 4096, 5, 3),
    Size(512, 16384, 32, 2048, 5, 3),
)
# What is learned is compared after so many steps, at each rate; the best of each contestant counts. The first is as short
# as the default run's.
LEARNED = (
    Size(64, 512, 16, 1024, 240, 2),
    Size(64, 512, 16, 1024, 1000, 1),
    Size(64, 4096, 16, 1024, 300, 1),
    Size(512, 4096, 32, 1024, 100, 1),
)
RATES = (1e-3, 3e-3)
# Ours by the rule that the rotation study publishes; all others, and ours where nothing is said, drop the decoder's norm.
PUBLISHED = "crossseed, norms absorbed"
L1 = 1e-3
LEARNED_COLUMNS = (
    *("d", "n_latents", "architecture", "k", "batch", "steps", "contestant", "lr", "best", "loss"),
    *("loss_lowest", "loss_highest", "ev", "l0", "dead_share", "repeats", "machine"),
)


def sparse_rows(d: int, n: int, seed: int = 0) -> np.ndarray:
    """Activations with planted sparse features and a decaying spectrum, float32."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((4 * d, d)) / np.sqrt(np.arange(1, d + 1))
    active = rng.random((n, 4 * d)) < 0.04
    rows = (active * rng.exponential(size=active.shape)) @ directions
    return rows.astype(np.float32)


def quality(path: Path, job: dict[str, Any], held_out: np.ndarray) -> dict[str, float]:
    """Of a contestant's weights on held-out rows: explained variance, L0, the share of silent latents, and `loss`: what is left
    unexplained, and of a ReLU SAE all that it is trained to lessen, error and penalty, over the variance."""
    arrays = np.load(path)
    relu = job["architecture"] == "relu"
    cfg = {
        "k": job["k"],
        "metadata": {"crossseed": {"architecture": "relu_l1" if relu else "topk"}},
    }
    W_enc, b_enc, W_dec, b_dec = (arrays[k] for k in ("W_enc", "b_enc", "W_dec", "b_dec"))
    found = Dictionary(W_enc, b_enc, W_dec, b_dec, cfg=cfg)
    h = found.encode(held_out)
    error = np.square(found.decode(h) - held_out).sum()
    total = np.square(held_out - held_out.mean(axis=0)).sum()
    # The mean over dimensions of the error goes with the sum over latents of the penalty; decoder norms are free in SAELens.
    sizes = (h * np.linalg.norm(W_dec, axis=1)).sum()
    penalty = job["l1"] * held_out.shape[1] * sizes if relu else 0.0
    return {
        "loss": float((error + penalty) / total),
        "ev": float(1 - error / total),
        "l0": float((h > 0).sum(axis=1).mean()),
        "dead_share": float((~(h > 0).any(axis=0)).mean()),
    }


class Worker:
    """A contestant's process.

    Args:
        python: its interpreter. script: in `contestants`.
        log: where its standard error goes.
    """

    def __init__(self, python: str, script: str, log: Path) -> None:
        self.log = log
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                [python, str(CONTESTANTS / script)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def run(self, job: dict[str, Any]) -> dict[str, float]:
        """Wall and processor seconds of a job."""
        self.send(job)
        return self.answer()

    def send(self, job: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args!r} failed:\n{self.log.read_text()[-3000:]}")
        found: dict[str, float] = json.loads(answer)
        return found

    def end(self) -> None:
        self.process.communicate()


def programs(peer: str | None) -> dict[str, tuple[str, str]]:
    """Interpreter and script of the contestants there are, by name; SAELens, eai-sparsify and dictionary-learning with a Python
    that has them."""
    known = {name: (sys.executable, script) for name, script in OURS.items()}
    return known | ({name: (peer, script) for name, script in PEERS.items()} if peer else {})


def contestants(peer: str | None, folder: Path) -> dict[str, Worker]:
    """The contestants' processes, by name."""
    known = programs(peer)
    return {name: Worker(*found, folder / f"{name}.log") for name, found in known.items()}


def job_of(
    size: Size, architecture: str, folder: Path, device: str, threads: int, lr: float
) -> dict[str, Any]:
    return {
        "rows": str(folder / "rows.npy"), "start": str(folder / "start.npz"), "out": str(folder / "out.npz"),
        "n_latents": size.n_latents, "architecture": architecture, "batch": size.batch, "steps": size.steps,
        "lr": lr, "l1": L1, "k": size.k, "threads": threads, "device": device, "absorb_norms": False,
    }  # fmt: skip


def save_start(size: Size, job: dict[str, Any], seed: int) -> None:
    """Weights that all contestants begin with."""
    arrays: dict[str, Any] = initial_arrays(size.d, size.n_latents, True, seed)
    np.savez(job["start"], **arrays)


def racing(known: Iterable[str], architecture: str) -> list[str]:
    """eai-sparsify has no ReLU with a penalty."""
    return [name for name in known if architecture == "topk" or name != "eai-sparsify"]


def training(
    peer: str | None, folder: Path, device: str, most: int, machine: str
) -> list[dict[str, Any]]:
    """Rows of `COLUMNS`.

    Args:
        most: repeats, at most.
    """
    workers = contestants(peer, folder)
    found = []
    cores = os.cpu_count() or 1
    for threads in (1, cores) if device == "cpu" and cores > 1 else (1,):
        for size in SIZES:
            rows = sparse_rows(size.d, 24_000 + HELD_OUT)
            np.save(folder / "rows.npy", rows[HELD_OUT:])
            for architecture in ("relu", "topk"):
                job = job_of(size, architecture, folder, device, threads, 2e-3)
                repeats = min(most, size.repeats)
                found += _of_size(size, job, workers, rows[:HELD_OUT], repeats, machine)
    for worker in workers.values():
        worker.end()
    return found


def learned(peer: str | None, folder: Path, most: int, machine: str) -> list[dict[str, Any]]:
    """Rows of `LEARNED_COLUMNS`: what each contestant has learned after equal steps, at each of `RATES`. No clock is read, so
    that there are as many at once as cores."""
    known = programs(peer)
    known = {name: known[name] for name in known if name != CEILING} | {
        PUBLISHED: known["crossseed"]
    }
    found = []
    for size in LEARNED:
        rows = sparse_rows(size.d, 300_000 + HELD_OUT)
        np.save(folder / "rows.npy", rows[HELD_OUT:])
        for architecture in ("relu", "topk"):
            repeats = range(min(most, size.repeats))
            job = job_of(size, architecture, folder, "cpu", 1, 0.0)
            jobs = []
            for seed in repeats:
                jobs.append({**job, "seed": seed, "start": str(folder / f"start{seed}.npz")})
                save_start(size, jobs[-1], seed)

            def run(
                cell: tuple[str, float, dict[str, Any]], held_out: np.ndarray = rows[:HELD_OUT]
            ) -> dict[str, float]:
                name, lr, job = cell
                at = f"{name} {lr} {job['seed']}"
                of_cell = {**job, "lr": lr, "out": str(folder / f"{at}.npz")}
                of_cell["absorb_norms"] = name == PUBLISHED
                worker = Worker(*known[name], folder / f"{at}.log")
                worker.run(of_cell)
                worker.end()
                return quality(Path(of_cell["out"]), of_cell, held_out)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for name in racing(known, architecture):
                    cells = [(name, lr, job) for lr in RATES for job in jobs]
                    found += _learned(size, architecture, name, list(pool.map(run, cells)), machine)
    return found


def _learned(
    size: Size, architecture: str, name: str, made: list[dict[str, float]], machine: str
) -> list[dict[str, Any]]:
    """Rows of a contestant at one size from what came of each rate and repeat, in this order."""
    found: list[dict[str, Any]] = []
    repeats = len(made) // len(RATES)
    for number, lr in enumerate(RATES):
        of_rate = made[number * repeats : (number + 1) * repeats]
        losses = [one["loss"] for one in of_rate]
        typical = {key: round(median(one[key] for one in of_rate), 4) for key in QUALITY}
        row: dict[str, Any] = {
            "d": size.d, "n_latents": size.n_latents, "architecture": architecture,
            "k": size.k if architecture == "topk" else None, "batch": size.batch, "steps": size.steps,
            "contestant": name, "lr": lr, **typical, "loss_lowest": round(min(losses), 4),
            "loss_highest": round(max(losses), 4), "repeats": repeats, "machine": machine,
        }  # fmt: skip
        print(row, flush=True)
        found.append(row)
    best = min(found, key=lambda row: row["loss"])
    return [{**row, "best": row is best} for row in found]


def _of_size(
    size: Size,
    job: dict[str, Any],
    workers: dict[str, Worker],
    held_out: np.ndarray,
    repeats: int,
    machine: str,
) -> list[dict[str, Any]]:
    names = racing(workers, job["architecture"])
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    made: dict[str, dict[str, float]] = {CEILING: {}}
    for repeat in range(repeats):
        # One start for all, so that what differs is the loop.
        save_start(size, job, repeat)
        for name in names:
            took = workers[name].run({**job, "seed": repeat})
            tokens = size.steps * size.batch
            rates[name].append((tokens / took["seconds"], tokens / took["cpu_seconds"]))
            if name != CEILING:
                made[name] = quality(Path(job["out"]), job, held_out)
    which = 1 if job["device"] == "cpu" and job["threads"] == 1 else 0
    rows = []
    for name, found in rates.items():
        row = {
            "device": job["device"], "threads": job["threads"], "d": size.d, "n_latents": size.n_latents,
            "architecture": job["architecture"], "k": size.k if job["architecture"] == "topk" else None,
            "batch": size.batch, "steps": size.steps, "contestant": name,
            "rates": " ".join(f"{rate[which]:.0f}" for rate in found),
            "tokens_per_s": round(median(wall for wall, _ in found)),
            **{key: round(made[name][key], 4) if made[name] else None for key in QUALITY},
            "repeats": repeats, "machine": machine,
        }  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    return rows


def check_saelens_reads_our_folders(peer: str, folder: Path) -> None:
    """SAELens, without this project installed, reconstructs from our folders what we do: from those of
    trained dictionaries, and of ported ones of every architecture."""
    rows, site = sparse_rows(64, 500), "blocks.0.hook_resid_post"
    np.save(folder / "rows.npy", rows)
    written: dict[str, Dictionary] = {}
    for name, own in (("relu_l1", {"l1": 0.0}), ("topk", {"k": 16})):
        config = module_of(name).Config.model_construct(architecture=name, **own)
        arrays = initial_arrays(64, 512, False, name)
        save(folder / name, arrays, cfg_of(config, 8, 64, site), {}, {})
        written[name] = load(folder / name)
    rng = np.random.default_rng(0)
    affine = AffineMap(haar_orthogonal(rng, 64), *rng.standard_normal((2, 64)))
    for architecture, more in PER_LATENT.items():
        arrays = {
            k: v for k, v in initial_arrays(64, 512, False, architecture).items() if k != "b_enc"
        }
        arrays |= {name: 0.1 * rng.random(512, dtype=np.float32) for name in more}
        k = 16 if architecture == "topk" else None
        found = Foreign(arrays, architecture, architecture != "standard", k, site, "")
        name = f"ported-{architecture}"
        written[name] = card.carry(formats.dictionary_of(found), affine)
        formats.save(folder / name, found, written[name], site, {}, {}, {})
    for name, ours in written.items():
        script = str(CONTESTANTS / "saelens_loads.py")
        command = [peer, script, folder / name, folder / "rows.npy", folder / "out.npz"]
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
        theirs = np.load(folder / "out.npz")
        latents = ours.encode(rows)
        gap = max(
            np.abs(x - theirs[key]).max() / np.abs(x).max()
            for key, x in (("latents", latents), ("xhat", ours.decode(latents)))
        )
        if gap > 1e-5:
            raise SystemExit(
                f"SAELens reads our {name} folder differently (by {gap} of the largest)"
            )
        if theirs["site"] != site:
            raise SystemExit(
                f"SAELens reads site {theirs['site']} from our {name} folder, not {site}"
            )
        print(
            f"SAELens reads our {name} folders: largest difference {gap:.1e} of the largest value"
        )


def check_cards(peer: str, results: Path, each: int) -> None:
    """SAELens, without this project installed, scores ported dictionaries of a run on the models that they
    are for as their cards do.

    Args:
        results: the run's; each: how many dictionaries of each cohort are loaded.
    """
    cards = sorted(results.glob("*/ports/*/*/*/*/card.csv"))
    if not cards:
        raise SystemExit(f"{results}: no ported dictionary lies there")
    for cohort, found in groupby(cards, key=lambda path: str(path.parts[-7])):
        for path in list(found)[:each]:
            pair, checkpoint, site = path.parts[-5:-2]
            room = results / cohort / "activations" / pair.split("-")[1] / checkpoint
            with h5py.File(room / f"{site}.h5") as file, tempfile.TemporaryDirectory() as folder:
                x = file["eval/activations"][:].astype(np.float32)
                rows, out = Path(folder) / "rows.npy", Path(folder) / "out.npz"
                np.save(rows, x)
                script = CONTESTANTS / "saelens_loads.py"
                command = [str(part) for part in (peer, script, path.parent, rows, out)]
                subprocess.run(command, check=True, capture_output=True)
                theirs = np.load(out)
                error = np.square(x - theirs["xhat"]).sum(dtype=float)
            ev = 1 - error / np.square(x - x.mean(axis=0, dtype=float)).sum(dtype=float)
            with open(path, newline="") as handle:
                said = {(r["arm"], r["metric"]): r["value"] for r in csv.DictReader(handle)}
            told = float(said["ported", "ev"])
            if abs(ev - told) > 1e-3 or str(theirs["site"]) != site:
                raise SystemExit(f"{path}: the card says {told}, SAELens {ev} at {theirs['site']}")
            print(f"{path.parent}: explained variance {ev:.4f} in SAELens, {told:.4f} on the card")
