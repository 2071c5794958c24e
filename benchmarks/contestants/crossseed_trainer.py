"""Trains one SAE with crossseed; prints seconds spent in the training loop as JSON."""

import json
import sys
import time

import numpy as np
import torch

from crossseed.sae.architectures import module_of
from crossseed.sae.training import Trainer


def main(job):
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    rows = torch.from_numpy(np.load(job["rows"])).to(job["device"])
    n_latents, batch, steps = job["n_latents"], job["batch"], job["steps"]
    width = rows.shape[1]
    common = {
        "expansions": [n_latents // width],
        "inits": ["shared"],
        "members": "all",
        "steps": steps,
        "batch_tokens": batch,
        "lr": job["lr"],
        "warmup_steps": 0,
        "decay_steps": 0,
        # SAELens clips the gradient of the sum over dimensions to 1; here the loss is their mean.
        "grad_clip": 1 / width,
        "tied_init": True,
        "standardise": False,
    }
    own = (
        {"architecture": "relu_l1", "l1": job["l1"]}
        if job["architecture"] == "relu"
        else {
            "architecture": "topk",
            "k": job["k"],
            "aux_coefficient": 1 / 32,
            "aux_k": width // 2,
            "dead_after_tokens": 1000 * batch,
        }
    )
    config = module_of(own["architecture"]).Config.model_validate({**common, **own})
    trainer = Trainer(config, dict(np.load(job["start"])), job["device"])
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows))).to(job["device"])
    per_epoch = len(rows) // batch
    began = time.perf_counter()
    for step in range(steps):
        at = (step % per_epoch) * batch
        trainer.step(rows[order[at : at + batch]], step)
    if job["device"] == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    np.savez(job["out"], **trainer.arrays())
    print(json.dumps({"seconds": seconds}))


main(json.loads(sys.argv[1]))
