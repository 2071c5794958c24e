"""Trains with SAELens through its public API."""

import torch
import worker
from sae_lens import (
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer


def train(job, clock):
    rows, start = worker.load(job)
    width, batch = rows.shape[1], job["batch"]
    common = {"d_in": width, "d_sae": job["n_latents"], "dtype": "float32", "device": job["device"]}
    if job["architecture"] == "relu":
        # SAELens sums the squared error over dimensions, the study averages it. Its decoder norms
        # are free and weigh the penalty: with three times the coefficient it reaches the same ev.
        config = StandardTrainingSAEConfig(**common, l1_coefficient=3 * job["l1"] * width)
        sae = StandardTrainingSAE(config)
    else:
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(**common, k=job["k"]))
    with torch.no_grad():
        for name, value in start.items():
            getattr(sae, name).copy_(value)
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=(job["steps"] + 1) * batch,
            train_batch_size_samples=batch,
            lr=job["lr"],
            lr_end=job["lr"] / 10,  # unused by the constant schedule, but must be given
            device=job["device"],
        ),
        sae,
        worker.batches(rows, job, clock),
    )
    trainer.fit()
    clock.stop()
    state = sae.state_dict()
    return {name: state[name] for name in start}


worker.serve(train)
