"""Runs the benchmarks side by side and writes `benchmarks/results/*.csv`.

    python benchmarks/run.py --peer PYTHON_OF_THE_PEERS_ENVIRONMENT

Contestants alternate within each repeat, so that a slow minute of the machine hits all of them.
Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import sae
from imports import job_of

from crossseed import __version__
from crossseed.alignment.maps import haar_orthogonal
from crossseed.devices import n_gpus
from crossseed.store import add_dataset, create_h5, open_h5, write_table

HERE = Path(__file__).parent
ROOT = HERE.parent
REPEATS = 3
RUN_COLUMNS = (
    "stage", "jobs", "job_seconds", "start_seconds", "work_seconds", "largest_memory_mb", "machine",
)  # fmt: skip
MEMORY_COLUMNS = (
    "tokens_factor", "tokens", "width", "sites", "peak_mb", "ratio_to_1x",
    "stored_activations_of_both_mb", "machine",
)  # fmt: skip
TREND_COLUMNS = (
    *("version", "cores", "wall_seconds", "science_seconds", "start_seconds"),
    *("reading_writing_seconds", "scheduling_seconds", "machine"),
)
BENCHMARKS = (
    *("run", "planning", "memory", "haar", "power", "interventions", "constructive"),
    *("stability", "joint", "imports", "extraction", "toys", "sae"),
)
HAAR_COLUMNS = ("what", "d", "size", "seconds", "against", "ratio", "repeats", "machine")
INTERVENTION_COLUMNS = (
    *("what", "device", "changes", "seconds", "one_by_one_seconds", "ratio", "largest_difference"),
    *("repeats", "machine"),
)
PLAN_COLUMNS = ("config", "jobs", "seconds", "lowest", "highest", "repeats", "machine")


def machine() -> str:
    if n_gpus():
        name = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        return f"{platform.machine()}, {name}"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def planning() -> list[dict[str, Any]]:
    """Seconds to plan each shipped config; nothing is run."""
    found = []
    for config in sorted((ROOT / "config").glob("*.yaml")):
        seconds, jobs = [], 0
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                command = [
                    sys.executable,
                    "-m",
                    "snakemake",
                    "--snakefile",
                    str(ROOT / "Snakefile"),
                ]
                command += ["--directory", folder, "--configfile", str(config), "--dry-run"]
                began = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds.append(time.perf_counter() - began)
                total = [line for line in done.stdout.splitlines() if line.startswith("total")]
                jobs = int(total[0].split()[1])
        row = {
            "config": config.name, "jobs": jobs, "seconds": round(median(seconds), 2),
            "lowest": round(min(seconds), 2), "highest": round(max(seconds), 2),
            "repeats": REPEATS, "machine": machine(),
        }  # fmt: skip
        print(row, flush=True)
        found.append(row)
    return found


def seconds_of(command: list[str], repeats: int = REPEATS) -> float:
    """Median wall seconds of a command."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return median(found)


# Stages whose name is not that of their verb.
VERB_OF = {"drift_of_seed": "collect", "shared_transfer": "shared"}


def stage_of(path: Path) -> str:
    """The verb behind a benchmark file of the workflow."""
    if "nulls" in path.parts:
        return "power" if path.name.startswith("power") else "null"
    name = path.parts[path.parts.index("benchmarks") + 1].removesuffix(".tsv")
    name = "collect" if name.startswith("collect_") else name
    return VERB_OF.get(name, name)


def stages(folder: Path) -> list[dict[str, Any]]:
    """A row a stage of a run, from the workflow's own benchmarks."""
    jobs: dict[str, list[tuple[float, float]]] = {}
    for path in folder.glob("results/**/benchmarks/**/*.tsv"):
        values = path.read_text().splitlines()[1].split("\t")
        memory = float(values[2]) if values[2] not in {"-", "NA"} else 0.0
        jobs.setdefault(stage_of(path), []).append((float(values[0]), memory))
    found = []
    for stage, rows in sorted(jobs.items()):
        once = seconds_of([sys.executable, "-c", job_of(stage)])
        total, start = sum(s for s, _ in rows), len(rows) * once
        found.append(
            {
                "stage": stage,
                "jobs": len(rows),
                "job_seconds": round(total, 1),
                "start_seconds": round(min(start, total), 1),
                "work_seconds": round(max(total - start, 0), 1),
                "largest_memory_mb": round(max(m for _, m in rows)),
                "machine": machine(),
            }
        )
    return found


def seconds_a_byte(megabytes: int = 64) -> tuple[float, float]:
    """Of reading a file of the store with its digest checked, and of writing one."""
    rows = np.zeros((megabytes << 12, 64), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.h5"

        def write() -> None:
            with create_h5(path, "bench/1", {}, {}) as file:
                add_dataset(file, "rows", data=rows)

        def read() -> None:
            with open_h5(path, "bench/1") as file:
                file["rows"][:]

        writing = fastest(write)
        return fastest(read) / rows.nbytes, writing / rows.nbytes


def reading_and_writing(command: list[str], folder: Path) -> float:
    """Seconds that the files which jobs read and wrote take at the rates of the store. The run kept its temporaries."""
    done = subprocess.run(
        [*command, "--detailed-summary"], capture_output=True, text=True, check=True
    )
    table = csv.DictReader(done.stdout.splitlines(), delimiter="\t")
    read: dict[str, str] = {}
    wrote = 0
    for line in table:
        out = folder / line["output_file"]
        wrote += out.stat().st_size if out.is_file() else 0
        # One job has one log, and several outputs.
        read[line["log-file(s)"]] = line["input-file(s)"]
    inputs = [folder / name for names in read.values() for name in names.split(",")]
    reading, writing = seconds_a_byte()
    found = sum(path.stat().st_size for path in inputs if path.is_file())
    return reading * found + writing * wrote


def trend(found: list[dict[str, Any]], cores: int, spent: float) -> None:
    """Adds the run's split to `trend.csv`, once a version."""
    path = HERE / "results/trend.csv"
    with open(path, newline="") as handle:
        before: list[dict[str, Any]] = list(csv.DictReader(handle))
    if any(row["version"] == __version__ for row in before):
        return
    whole = next(row for row in found if row["stage"].startswith("whole run"))
    wall, start, work = (whole[f"{key}_seconds"] for key in ("job", "start", "work"))
    row = {
        "version": __version__, "cores": cores, "wall_seconds": wall, "science_seconds": round(work - spent, 1),
        "start_seconds": start, "reading_writing_seconds": round(spent, 1),
        "scheduling_seconds": round(cores * wall - start - work, 1), "machine": machine(),
    }  # fmt: skip
    write_table(path, TREND_COLUMNS, [*before, row])


def default_run(cores: int, peer: str | None) -> list[dict[str, Any]]:
    """The default run in an empty folder, a row a stage, and the plan of a rerun without change; adds it to the
    trend where the version is new.

    A job's start is its process and imports, measured by importing what its verb imports; the
    rest of its seconds is work. What remains of cores × wall time is scheduling and waiting.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(ROOT / "config/config.yaml")]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--directory", folder]
        began = time.perf_counter()
        subprocess.run(
            [*command, "--cores", str(cores), "--resources", "gpu=1", "--notemp"],
            check=True,
            capture_output=True,
        )
        wall = time.perf_counter() - began
        replan = seconds_of([*command, "--cores", str(cores), "--dry-run"])
        found = stages(Path(folder))
        spent = reading_and_writing(command, Path(folder))
        if peer:
            sae.check_cards(peer, Path(folder) / "results", each=2)
    work = sum(row["work_seconds"] for row in found)
    found.append(
        {
            "stage": f"whole run on {cores} cores",
            "jobs": sum(row["jobs"] for row in found),
            "job_seconds": round(wall, 1),
            "start_seconds": round(sum(r["start_seconds"] for r in found), 1),
            "work_seconds": round(work, 1),
            "largest_memory_mb": max(row["largest_memory_mb"] for row in found),
            "machine": machine(),
        }
    )
    share = 1 - work / (cores * wall)
    found.append(
        {
            "stage": "share outside training and analysis",
            "jobs": "",
            "job_seconds": round(share, 3),
            "start_seconds": "",
            "work_seconds": "",
            "largest_memory_mb": "",
            "machine": machine(),
        }
    )
    found.append(
        {
            "stage": "plan of a rerun without change",
            "jobs": 0,
            "job_seconds": round(replan, 1),
            "start_seconds": "",
            "work_seconds": "",
            "largest_memory_mb": "",
            "machine": machine(),
        }
    )
    for row in found:
        print(row, flush=True)
    trend(found, cores, spent)
    return found


def streaming_memory(folder: Path) -> list[dict[str, Any]]:
    """Peak memory of the streaming verb as tokens grow, beside what stored activations would take."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from crossseed.activations import write_tokens
    from crossseed.cohorts.base import TokenSet

    width, layers, vocabulary, context = 256, 4, 512, 128
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = GPTNeoXConfig(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
            num_attention_heads=4, intermediate_size=4 * width, max_position_embeddings=context,
        )  # fmt: skip
        GPTNeoXForCausalLM(config).save_pretrained(folder / f"org/seed{seed}")
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(layers)]
    reading = {"folder": str(folder), "precision": "float32", "device_map": None}

    def member(seed: int) -> dict[str, Any]:
        return {"seed": seed, "checkpoint": "final", "model_id": f"org/seed{seed}", **reading}

    spec = {
        "kind": "hub", "cohort": "bench", "sites": sites, "origin": "",
        "members": {"member": member(1), "checkpoint": member(1), "seed": member(0)},
    }  # fmt: skip
    found: list[dict[str, Any]] = []
    for factor in (1, 4, 16):
        rng = np.random.default_rng(0)
        sets = {}
        for split, sequences in (("fit", 256 * factor), ("train", 1), ("eval", 128 * factor)):
            ids = rng.integers(0, vocabulary, (sequences, context))
            sets[split] = TokenSet(ids, np.ones(ids.shape, bool), {}, np.arange(sequences))
        tokens = folder / f"tokens{factor}.h5"
        write_tokens(tokens, {}, sets, {})
        command = [sys.executable, "-m", "crossseed", "drift", "--spec", json.dumps(spec)]
        command += ["--device", "cpu", "--tokens", str(tokens), "--out", str(folder / "drift.csv")]
        # The kernel's own count for this one child.
        with open(folder / "log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"drift failed:\n{(folder / 'log').read_text()[-3000:]}")
        n_tokens = sum(s.tokens_nt.size for s in sets.values())
        peak = usage.ru_maxrss / 1024
        row = {
            "tokens_factor": factor, "tokens": n_tokens, "width": width, "sites": len(sites),
            "peak_mb": round(peak), "ratio_to_1x": round(peak / (found[0]["peak_mb"] if found else peak), 3),
            "stored_activations_of_both_mb": round(2 * n_tokens * width * len(sites) * 4 / 2**20),
            "machine": machine(),
        }  # fmt: skip
        print(row, flush=True)
        found.append(row)
    return found


def interventions(device: str) -> list[dict[str, Any]]:
    """Changes of a language model tried at the middle of it: resumed there and side by side, against
    one whole forward pass (and backward, for gradients) a change through a plain hook."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from crossseed import ablation, attribution
    from crossseed.cohorts.base import TokenSet
    from crossseed.cohorts.hub.interventions import HubSubject

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=2048, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=512, max_position_embeddings=128,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval().to(device)
    subject = HubSubject(model, "gpt_neox", "bench", device)
    rng = np.random.default_rng(0)
    found = []

    def put(what: str, changes: int, fast: Callable[[], Any], slow: Callable[[], Any]) -> None:
        gap = float(np.abs(fast() - slow()).max() / np.abs(slow()).max())
        ours, theirs = fastest(fast), fastest(slow)
        row = {
            "what": what, "device": device, "changes": changes, "seconds": round(ours, 3),
            "one_by_one_seconds": round(theirs, 3), "ratio": round(theirs / ours, 2),
            "largest_difference": f"{gap:.1e}", "repeats": REPEATS, "machine": machine(),
        }  # fmt: skip
        print(row, flush=True)
        found.append(row)

    prompts = rng.integers(0, 2048, (20, 14))
    last = np.zeros(prompts.shape, bool)
    last[:, -1] = True
    vectors = torch.from_numpy(rng.standard_normal((128, 128)).astype(np.float32)).to(device)
    block = model.gpt_neox.layers[1]

    def side_by_side() -> np.ndarray:
        start = subject.start(prompts, "blocks.1.hook_resid_post")
        own, parts = start.value_ntd, []
        for part in vectors.split(4096 // prompts.size):
            changed = (own[None] + part[:, None, None]).flatten(0, 1)
            parts.append(start.logits(changed, last)[0].cpu())
        return torch.cat(parts).numpy()

    def one_by_one() -> np.ndarray:
        tokens = torch.from_numpy(prompts).to(device)
        parts = []
        for v in vectors:
            handle = block.register_forward_hook(lambda _, __, out, v=v: out + v)
            with torch.no_grad():
                parts.append(model(input_ids=tokens, use_cache=False).logits[:, -1].cpu())
            handle.remove()
        return torch.stack(parts).numpy()

    put("steering by 128 vectors, 20 prompts of 14 tokens", len(vectors), side_by_side, one_by_one)

    rows = rng.integers(0, 2048, (1, 128))
    tokens = TokenSet(rows, np.ones(rows.shape, bool), {}, np.arange(1))
    batch = ablation.Batch(subject, tokens, np.arange(1))
    mean = torch.zeros(128, device=device)
    t, _ = attribution.nodes(attribution.RIGHT, 32)

    def path_at_once() -> np.ndarray:
        start = subject.start(rows, "blocks.2.hook_mlp_out")
        return ablation.gradients(batch, start, mean, t)[:-1]

    def path_point_by_point() -> np.ndarray:
        ids = torch.from_numpy(rows).to(device)
        mlp = model.gpt_neox.layers[2].mlp
        held: list[torch.Tensor] = []
        handle = mlp.register_forward_hook(lambda _, __, out: held.append(out.detach()))
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)
        handle.remove()
        own, values = held[0], []
        for point in t:
            value = (own * point + mean * (1 - point)).float().requires_grad_(True)
            handle = mlp.register_forward_hook(lambda _, __, out, value=value: value)
            logits = model(input_ids=ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
            (gradient,) = torch.autograd.grad(loss, value)
            handle.remove()
            values.append(float((gradient * (mean - own)).sum()))
        return np.array(values)

    put("integrated gradients of an MLP, 32 points", 32, path_at_once, path_point_by_point)
    return found


def fastest(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Wall seconds of the fastest run."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def haar() -> list[dict[str, Any]]:
    """The Haar tests and Procrustes at d = 512, one core, against the obvious ways."""
    from crossseed.alignment.maps import procrustes
    from crossseed.alignment.moments import Moments
    from crossseed.haar import eigenangles, null, statistics, study
    from crossseed.pairs import Pair

    d, rng = 512, np.random.default_rng(0)
    found: list[dict[str, Any]] = []

    def row(
        what: str, size: int, seconds: float, against: str = "", ratio: float | None = None
    ) -> None:
        found.append(
            {
                "what": what, "d": d, "size": size, "seconds": round(seconds, 4), "against": against,
                "ratio": None if ratio is None else round(ratio, 2), "repeats": REPEATS,
                "machine": machine(),
            }
        )  # fmt: skip
        print(found[-1], flush=True)

    def drawn(size: int) -> None:
        for det in (1, -1):
            for block in eigenangles.draws(rng, d, det, size // 2):
                statistics.spectral(block, d, det)
                null.empirical_less_mean(block, d, det)

    def by_qr() -> np.ndarray:
        q, r = np.linalg.qr(rng.standard_normal((d, d)))
        return q * np.sign(np.diag(r))

    dense_seconds = fastest(lambda: np.sort(np.abs(np.angle(np.linalg.eigvals(by_qr())))))
    row("one draw: QR and eigenvalues", 1, dense_seconds)
    spectral = fastest(lambda: drawn(10_000), 1)
    row(
        "eigenangle null, statistics included",
        10_000,
        spectral,
        "QR and eigenvalues",
        10_000 * dense_seconds / spectral,
    )
    matrix = haar_orthogonal(rng, d)
    frame = 2 * eigenangles.n_pairs(d, 1)

    def entry() -> None:
        q = haar_orthogonal(rng, d)
        statistics.entries(q)
        statistics.planes_participation(q[:, :frame])

    drawn_one, qr = fastest(lambda: haar_orthogonal(rng, d), 20), fastest(by_qr, 20)
    row("one Haar draw", 1, drawn_one, "QR of a Gaussian matrix", qr / drawn_one)
    row("entry null, draw and assignment", 9999, 9999 * fastest(entry, 20))

    a, b = (rng.standard_normal((65_536, d), dtype=np.float32) for _ in range(2))

    def streamed() -> None:
        moments = Moments(d, d, cross_only=True)
        for start in range(0, len(a), 8192):
            moments.add(a[start : start + 8192], b[start : start + 8192])
        procrustes(moments.cross_covariance)

    def floor() -> None:
        np.linalg.svd((b.T @ a).astype(np.float64))

    least = fastest(floor)
    row(
        "Procrustes of rows",
        65_536,
        fastest(streamed),
        "its product and one SVD",
        fastest(streamed) / least,
    )

    rows = [rng.standard_normal((8 * d, d)) for _ in range(4)]
    halves = tuple(Moments(d, d) for _ in range(3))
    for moments, x, y in zip(halves, rows, rows[1:], strict=False):
        moments.add(x, x @ matrix + y)
    nulls = {size: null.draw(size, 700) for size in (d, d // 2)}
    spec = {"site": "s", "source_seed": 0, "target_seed": 1}

    def cell() -> None:
        # A pair of its own each time: it keeps what it has factorised.
        flat = (np.zeros(d), np.zeros(d))
        pair = Pair(("bench",), halves[:2], halves[2], flat, None, spec)
        study.of_pair(pair, nulls)
        study.phases_of(pair)

    row("the battery on 56 pairs and sites and their controls, nulls drawn", 56, 56 * fastest(cell))
    return found


def power_tables() -> list[dict[str, Any]]:
    """What the Haar tests reject at the sizes of the toy and of Pythia-70m. At the larger, where a
    draw takes a third of a second, power comes from fewer draws than size, and without curves."""
    from crossseed.haar import null, power

    found = power.table(null.draw(64, 9999), 1000)
    at_512 = null.draw(512, 9999)
    found += power.table(at_512, 1000, ["haar"], curves=())
    others = [name for name in power.ALTERNATIVES if name != "haar"]
    found += power.table(at_512, 150, others, curves=())
    return [{**r, "strength": "" if np.isnan(r["strength"]) else r["strength"]} for r in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="Python of the environment in which SAELens is installed")
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, help="leave out the others")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs a contestant")
    parser.add_argument(
        "--results",
        type=Path,
        help="no benchmark: score the ported dictionaries of a run in SAELens, beside their cards",
    )
    parser.add_argument("--each", type=int, default=2, help="of each cohort, with --results")
    args = parser.parse_args()
    only = args.only or BENCHMARKS
    if args.results is not None:
        if not args.peer:
            parser.error("--results wants --peer, the Python in which SAELens is installed")
        sae.check_cards(args.peer, args.results, args.each)
        return
    if "run" in only:
        write_table(HERE / "results/default_run.csv", RUN_COLUMNS, default_run(2, args.peer))
    if "planning" in only:
        write_table(HERE / "results/planning.csv", PLAN_COLUMNS, planning())
    if "memory" in only:
        with tempfile.TemporaryDirectory() as folder:
            rows = streaming_memory(Path(folder))
        write_table(HERE / "results/streaming_memory.csv", MEMORY_COLUMNS, rows)
    if "haar" in only:
        write_table(HERE / "results/haar.csv", HAAR_COLUMNS, haar())
    if "power" in only:
        from crossseed.haar import power

        write_table(HERE / "results/power.csv", power.COLUMNS, power_tables())
    if "interventions" in only:
        rows = interventions("cpu") + (interventions("cuda") if n_gpus() else [])
        write_table(HERE / "results/interventions.csv", INTERVENTION_COLUMNS, rows)
    if "constructive" in only:
        import constructive

        rows = constructive.alignment(fastest, machine()) + constructive.stream(machine())
        write_table(HERE / "results/constructive.csv", constructive.COLUMNS, rows)
    if "stability" in only:
        import stability

        found = stability.matching(machine()), stability.seeds(machine())
        write_table(HERE / "results/matching.csv", stability.MATCHING_COLUMNS, found[0])
        write_table(HERE / "results/sae_seeds.csv", stability.SEED_COLUMNS, found[1])
    if "joint" in only:
        import joint

        rows = joint.joint(machine()) + (joint.joint(machine(), "cuda") if n_gpus() else [])
        write_table(HERE / "results/joint.csv", joint.COLUMNS, rows)
    if "imports" in only:
        import imports

        write_table(
            HERE / "results/imports.csv", imports.COLUMNS, imports.imports(machine(), args.repeats)
        )
    if "extraction" in only:
        import extraction

        rows = extraction.extraction(machine(), args.repeats)
        write_table(HERE / "results/extraction.csv", extraction.COLUMNS, rows)
    if "toys" in only:
        import toys

        rows = toys.toys(machine(), args.repeats, ROOT / "config/config.yaml")
        write_table(HERE / "results/toys.csv", toys.COLUMNS, rows)
    if "sae" not in only:
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.peer:
            sae.check_saelens_reads_our_folders(args.peer, Path(folder))
        common = args.repeats, machine()
        rows = sae.training(args.peer, Path(folder), "cpu", *common)
        if n_gpus():
            rows += sae.training(args.peer, Path(folder), "cuda", *common)
        write_table(HERE / "results/sae_training.csv", sae.COLUMNS, rows)


if __name__ == "__main__":
    main()
