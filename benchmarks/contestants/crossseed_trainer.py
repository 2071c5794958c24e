"""Trains with crossseed."""

import torch
import worker

from crossseed.sae.architectures import module_of
from crossseed.sae.training import Trainer


def train(job, clock):
    rows, start = worker.load(job)
    width, steps = rows.shape[1], job["steps"] + 1
    common = {
        "expansions": [job["n_latents"] // width],
        "inits": ["shared"],
        "members": "all",
        "steps": steps,
        "batch_tokens": job["batch"],
        "lr": job["lr"],
        "warmup_steps": 0,
        "decay_steps": 0,
        # SAELens clips the gradient of the sum over dimensions to 1; here the loss is their mean.
        "grad_clip": 1 / width,
        "tied_init": True,
        "standardise": False,
        "absorb_norms": job["absorb_norms"],
    }
    own = (
        {"architecture": "relu_l1", "l1": job["l1"]}
        if job["architecture"] == "relu"
        else {
            "architecture": "topk",
            "k": job["k"],
            "aux_coefficient": 1 / 32,
            "aux_k": width // 2,
            "dead_after_tokens": 10_000_000,
        }
    )
    config = module_of(own["architecture"]).Config.model_validate({**common, **own})
    trainer = Trainer(config, {k: v.numpy() for k, v in start.items()}, job["device"])
    stream = worker.batches(rows, job, clock)
    for step in range(steps):
        trainer.step(next(stream), step)
    clock.stop()
    return {name: torch.from_numpy(value) for name, value in trainer.arrays().items()}


worker.serve(train)
