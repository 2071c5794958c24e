"""What contestants share: each is a process that trains one SAE a line of standard input, and answers with a line of JSON.

A job is a dictionary: rows and start (files), n_latents, architecture (relu or topk), batch, steps, lr, l1, k, seed,
threads, device, out (a file for the weights); together, where several are to begin at once: a folder, and how many they are.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

# Peers print, some of them as they are imported: what is written to standard output from here on goes to the other.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


class Clock:
    """Wall and processor seconds of all steps but the first, which warms up."""

    def __init__(self, job):
        self.cuda, self.done, self.spent = job["device"] == "cuda", 0, None
        self.together, self.seed = job.get("together"), job["seed"]

    def _now(self):
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def before_step(self):
        if self.done == 1:
            if self.together:
                self._wait(*self.together)
            self.began = self._now()
        self.done += 1

    def _wait(self, folder, others):
        """Until all have come so far."""
        self._now()
        Path(folder, str(self.seed)).touch()
        while len(os.listdir(folder)) < others:
            time.sleep(1e-3)

    def stop(self):
        if self.spent is None:
            self.spent = [end - begun for end, begun in zip(self._now(), self.began, strict=True)]


def load(job):
    """Rows on the device, and the weights to start from."""
    rows = torch.from_numpy(np.load(job["rows"])).to(job["device"])
    return rows, {name: torch.from_numpy(w) for name, w in np.load(job["start"]).items()}


def batches(rows, job, clock):
    """A batch a step, one more than are timed; more if they are asked for, with the clock stopped."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows))).to(rows.device)
    per_epoch, batch = len(rows) // job["batch"], job["batch"]
    step = 0
    while True:
        at = (step % per_epoch) * batch
        if step > job["steps"]:
            clock.stop()
        else:
            clock.before_step()
        yield rows[order[at : at + batch]]
        step += 1


def serve(train):
    """Runs `train(job, clock)`, which returns W_enc, b_enc, W_dec and b_dec, for each line of standard input."""
    torch.set_flush_denormal(True)
    for line in sys.stdin:
        job = json.loads(line)
        torch.set_num_threads(job["threads"])
        torch.manual_seed(job["seed"])
        clock = Clock(job)
        arrays = train(job, clock)
        clock.stop()
        if arrays:
            np.savez(job["out"], **{k: v.detach().cpu().numpy() for k, v in arrays.items()})
        answers.write(json.dumps({"seconds": clock.spent[0], "cpu_seconds": clock.spent[1]}) + "\n")
        answers.flush()
