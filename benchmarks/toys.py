"""Training of the default run's toy: what its steps take beside the bare arithmetic, and how soon it knows the depth."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from measured import FLOOR, MOST, WHOLE, Beside, compared, machine

from crossseed.adam import Adam
from crossseed.cohorts.dyck import training
from crossseed.cohorts.dyck.config import Training
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.optimisation import BETAS, learning_rate
from crossseed.config.load import load_files
from crossseed.seeding import entropy

LEARNED_COLUMNS = ("what", "seed", "steps", "steps_per_cpu_s", "accuracy", "cpu_seconds", "machine")
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


def step(repeats: int, config: Path) -> list[dict[str, Any]]:
    """Rows of `COMPARED`."""
    told = begin(config)
    per_pool = told.pool_rows // told.batch_rows
    assert MEASURED_STEPS % per_pool == 0
    start = told.steps // 2 // per_pool * per_pool
    list(islice(training.training_batches(0, told, start), 1))
    # The first is for warming up.
    times = [steps(told, start) for _ in range(repeats + 1)][1:]
    whole, making, least = zip(*times, strict=True)
    alone = Beside("passes and Adam alone, on batches that lie there", FLOOR, MOST, least)
    amount = (MEASURED_STEPS, "steps")
    return compared("training", whole, [alone], amount=amount) + compared(
        "making of their batches", making, [Beside("the steps", WHOLE, DATA_GOAL, whole)]
    )


def begin(config: Path) -> Training:
    """The recipe, and PyTorch as training has it."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    return recipe(config)


def to_accuracy(config: Path, seeds: int = 3) -> list[dict[str, Any]]:
    """Rows of `LEARNED_COLUMNS`: models trained until their depth is right so often on held-out rows of their own distribution,
    or to the end of training; looking is not counted."""
    return [_learned(begin(config), seed) for seed in range(seeds)]


def _learned(told: Training, seed: int) -> dict[str, Any]:
    model = DyckTransformer(entropy("dyck-initialisation", seed) % 2**63)
    stepper, source = training.Stepper(model, told), training.training_batches(seed, told, 0)
    low, high = told.lengths
    taken, depth, number = 0.0, 0.0, 0
    while depth < ACCURACY and number < told.steps:
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
        "what": f"depth right in {ACCURACY:.1%}{'' if depth >= ACCURACY else ', not reached'}",
        "seed": seed, "steps": number,
        "steps_per_cpu_s": round(number / taken, 1), "accuracy": round(depth, 4),
        "cpu_seconds": round(taken, 1), "machine": machine(),
    }  # fmt: skip
    print(row, flush=True)
    return row
