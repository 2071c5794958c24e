"""Training of the default run's toy: what its steps take beside the bare arithmetic, and how soon it knows the depth."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from crossseed.adam import Adam
from crossseed.cohorts.dyck import training
from crossseed.cohorts.dyck.config import Training
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.optimisation import BETAS, learning_rate
from crossseed.config.load import load_files
from crossseed.seeding import entropy

COLUMNS = (
    *("what", "steps", "steps_per_cpu_s", "bare_steps_per_cpu_s", "ratio_to_floor", "data_share"),
    *("data_goal", "accuracy", "cpu_seconds", "repeats", "machine"),
)
DATA_GOAL = 0.02
ACCURACY = 0.995
# Whole pools, from the lengths of the end of training, which are those of most steps.
MEASURED_STEPS = 256
LOOK_EVERY = 100


def recipe(config: Path) -> Training:
    """Of the first cohort of a configuration."""
    cohort: Any = next(iter(load_files(config).cohorts.values()))
    return Training.model_validate(cohort.training_spec(cohort.anchor)["training"])


def bare(batches: list[tuple[torch.Tensor, ...]], told: Training) -> float:
    """Processor seconds of passes forward and backward and of Adam, on batches that lie there."""
    model = DyckTransformer(0)
    parameters = list(model.parameters())
    adam = Adam(parameters, BETAS, told.weight_decay)
    began = time.process_time()
    for *inputs, weight in batches:
        loss = training.loss_of(model, *inputs) * weight
        adam.step(torch.autograd.grad(loss, parameters), told.peak_lr)
    return time.process_time() - began


def steps(told: Training, start: int) -> tuple[float, float, float]:
    """Processor seconds of so many steps as they are taken, of these the making of batches, and of bare steps."""
    stepper = training.Stepper(DyckTransformer(0), told)
    source = training.training_batches(0, told, start)
    kept, began = [], time.process_time()
    for number in range(MEASURED_STEPS):
        batch = next(source)
        stepper(batch, learning_rate(start + number, told))
        # The training loop looks at the loss of each step.
        stepper.loss_sum.item()
        kept.append(batch)
    whole = time.process_time() - began
    began = time.process_time()
    for _ in islice(training.training_batches(0, told, start), MEASURED_STEPS):
        pass
    making = time.process_time() - began
    tensors = [
        (*(torch.from_numpy(a).long() for a in batch[:3]), torch.tensor(batch.weight))
        for batch in kept
    ]
    return whole, making, bare(tensors, told)


def toys(machine: str, repeats: int, config: Path) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    told = recipe(config)
    per_pool = told.pool_rows // told.batch_rows
    assert MEASURED_STEPS % per_pool == 0
    start = told.steps // 2 // per_pool * per_pool
    list(islice(training.training_batches(0, told, start), 1))
    times = [steps(told, start) for _ in range(repeats)]
    whole, _, least = (median(column) for column in zip(*times, strict=True))
    same: dict[str, Any] = {"repeats": repeats, "machine": machine}
    row = {
        "what": "a training step", "steps": MEASURED_STEPS,
        "steps_per_cpu_s": round(MEASURED_STEPS / whole, 1),
        "bare_steps_per_cpu_s": round(MEASURED_STEPS / least, 1),
        "ratio_to_floor": round(median(a / c for a, _, c in times), 3),
        "data_share": round(median(b / a for a, b, _ in times), 4), "data_goal": DATA_GOAL,
        "accuracy": None, "cpu_seconds": None, **same,
    }  # fmt: skip
    print(row, flush=True)
    return [row, to_accuracy(told, same)]


def to_accuracy(told: Training, same: dict[str, Any]) -> dict[str, Any]:
    """One model trained until its depth is right so often on held-out rows of its own distribution, or to the end; looking
    is not counted."""
    model = DyckTransformer(entropy("dyck-initialisation", 0) % 2**63)
    stepper, source = training.Stepper(model, told), training.training_batches(0, told, 0)
    low, high = told.lengths
    taken, depth, number = 0.0, 0.0, 0
    while number < told.steps and depth < ACCURACY:
        began = time.process_time()
        for _ in range(min(LOOK_EVERY, told.steps - number)):
            stepper(next(source), learning_rate(number, told))
            number += 1
        taken += time.process_time() - began
        depth = next(
            row["value"]
            for row in training.evaluate(model, told.eval_rows, (low, high), 0)
            if (row["distribution"], row["measure"]) == ("train", "accuracy_depth")
        )
    row = {
        **dict.fromkeys(COLUMNS), "what": f"depth right in {ACCURACY:.1%}", "steps": number,
        "steps_per_cpu_s": round(number / taken, 1), "accuracy": round(depth, 4),
        "cpu_seconds": round(taken, 1), **same, "repeats": 1,
    }  # fmt: skip
    print(row, flush=True)
    return row
