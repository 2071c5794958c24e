"""Trains one SAE with SAELens through its public API, in an environment of its own."""

import json
import sys
import time

import numpy as np
import torch
from sae_lens import (
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer


def main(job):
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(job["seed"])
    rows = torch.from_numpy(np.load(job["rows"])).to(job["device"])
    width, batch = rows.shape[1], job["batch"]
    common = {"d_in": width, "d_sae": job["n_latents"], "dtype": "float32", "device": job["device"]}
    if job["architecture"] == "relu":
        # SAELens sums the squared error over dimensions, the study averages it. Its decoder norms
        # are free and weigh the penalty: with three times the coefficient it reaches the same ev.
        config = StandardTrainingSAEConfig(**common, l1_coefficient=3 * job["l1"] * width)
        sae = StandardTrainingSAE(config)
    else:
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(**common, k=job["k"]))
    start = np.load(job["start"])
    with torch.no_grad():
        for name in start.files:
            getattr(sae, name).copy_(torch.from_numpy(start[name]))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows))).to(job["device"])
    per_epoch = len(rows) // batch

    def batches():
        step = 0
        while True:
            at = (step % per_epoch) * batch
            yield rows[order[at : at + batch]]
            step += 1

    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=job["steps"] * batch,
            train_batch_size_samples=batch,
            lr=job["lr"],
            lr_end=job["lr"] / 10,  # unused by the constant schedule, but must be given
            device=job["device"],
        ),
        sae,
        batches(),
    )
    began = time.perf_counter()
    trainer.fit()
    if job["device"] == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    state = {k: v.detach().cpu().numpy() for k, v in sae.state_dict().items()}
    np.savez(job["out"], **{k: state[k] for k in ("W_enc", "b_enc", "W_dec", "b_dec")})
    print(json.dumps({"seconds": seconds}))


main(json.loads(sys.argv[1]))
