"""Trains with eai-sparsify through its public API: its trainer wants a model, which here looks the rows up.

It has TopK alone. Nothing is clipped, the decoder's bias starts at the first batch's mean.
"""

import tempfile

import numpy as np
import torch
import worker
from sparsify import SaeConfig, TrainConfig, Trainer

# Rows a sequence.
LENGTH = 64


class Rows(torch.nn.Module):
    """A model whose activations at `site` are given; numbers of rows are its tokens."""

    def __init__(self, rows):
        super().__init__()
        self.site = torch.nn.Embedding.from_pretrained(rows)
        self.before_step = None

    @property
    def base_model(self):
        return self

    @property
    def device(self):
        return self.site.weight.device

    @property
    def dummy_inputs(self):
        return {"input_ids": torch.zeros((1, 1), dtype=torch.int64)}

    def forward(self, input_ids):
        if self.before_step is not None:
            self.before_step()
        return self.site(input_ids)


def train(job, clock):
    rows, start = worker.load(job)
    batch, steps = job["batch"], job["steps"] + 1
    model = Rows(rows)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows)))
    used = order[: len(rows) // batch * batch].repeat(-(-steps * batch // len(rows)) + 1)
    tokens = [{"input_ids": part} for part in used[: steps * batch].view(-1, LENGTH)]
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            SaeConfig(num_latents=job["n_latents"], k=job["k"]),
            batch_size=batch // LENGTH,
            optimizer="adam",
            lr=job["lr"],
            lr_warmup_steps=0,
            auxk_alpha=1 / 32,
            hookpoints=["site"],
            save_every=1 << 30,
            save_dir=folder,
            log_to_wandb=False,
        )
        trainer = Trainer(config, tokens, model)
        (sae,) = trainer.saes.values()
        with torch.no_grad():
            sae.encoder.weight.copy_(start["W_enc"].T)
            sae.encoder.bias.copy_(start["b_enc"])
            sae.W_dec.copy_(start["W_dec"])
        model.before_step = clock.before_step
        # Its rate would fall linearly to 0.
        trainer.lr_schedulers = []
        # It saves when it is done, which is no training.
        trainer.save = clock.stop
        trainer.fit()
    sae.set_decoder_norm_to_unit_norm()
    return {
        "W_enc": sae.encoder.weight.T,
        "b_enc": sae.encoder.bias,
        "W_dec": sae.W_dec,
        "b_dec": sae.b_dec,
    }


worker.serve(train)
