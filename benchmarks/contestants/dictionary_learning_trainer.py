"""Trains with dictionary-learning through its public API.

Its ReLU SAE has the study's objective times the width; it clips TopK's gradients alone.
"""

import torch
import worker
from dictionary_learning.dictionary import AutoEncoder
from dictionary_learning.trainers import StandardTrainer, TopKTrainer
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.training import trainSAE


def train(job, clock):
    rows, start = worker.load(job)
    width, steps = rows.shape[1], job["steps"] + 1
    relu, made = job["architecture"] == "relu", []

    def begun(*sizes):
        sae = (AutoEncoder if relu else AutoEncoderTopK)(*sizes)
        with torch.no_grad():
            sae.encoder.weight.copy_(start["W_enc"].T)
            sae.encoder.bias.copy_(start["b_enc"])
            sae.decoder.weight.copy_(start["W_dec"].T)
        made.append(sae)
        return sae

    config = {
        "steps": steps,
        "activation_dim": width,
        "dict_size": job["n_latents"],
        "dict_class": begun,
        "lr": job["lr"],
        "warmup_steps": 0,
        "layer": 0,
        "lm_name": "",
        "device": job["device"],
        "seed": job["seed"],
    }
    if relu:
        own = {"trainer": StandardTrainer, "l1_penalty": job["l1"] * width}
        own["sparsity_warmup_steps"] = None
    else:
        own = {"trainer": TopKTrainer, "k": job["k"]}
    stream = worker.batches(rows, job, clock)
    trainSAE(stream, [{**config, **own}], steps, device=job["device"])
    clock.stop()
    (sae,) = made
    return {
        "W_enc": sae.encoder.weight.T,
        "b_enc": sae.encoder.bias,
        "W_dec": sae.decoder.weight.T,
        "b_dec": sae.bias if relu else sae.b_dec,
    }


worker.serve(train)
