"""No contestant but their ceiling: the five dense products of a step, into buffers that are there, and nothing else.

They are taken of the whole batch, or of as many rows at a time as is fastest: pieces stay in a processor's cache. They are
made by MKL or by oneDNN, whichever is faster here.
"""

import itertools
import time
from contextlib import nullcontext

import torch
import worker

from crossseed import products

PIECES = (128, 256, 512, 1024)


def train(job, clock):
    rows, start = worker.load(job)
    W_enc, W_dec = start["W_enc"].to(job["device"]), start["W_dec"].to(job["device"])
    n, batch = job["n_latents"], job["batch"]
    h, g = torch.empty((2, batch, n), device=job["device"])
    errors, by_W_enc, by_W_dec = rows[:batch].clone(), W_enc.clone(), W_dec.clone()

    def step(x, piece):
        for at in range(0, batch, piece):
            part, add = slice(at, at + piece), min(at, 1)
            latents, error, back = h[part], errors[part], g[part]
            torch.mm(x[part], W_enc, out=latents)
            torch.mm(latents, W_dec, out=error)
            torch.mm(error, W_dec.T, out=back)
            torch.addmm(by_W_dec, latents.T, error, beta=add, out=by_W_dec)
            torch.addmm(by_W_enc, x[part].T, back, beta=add, out=by_W_enc)

    def seconds(way):
        piece, library = way
        began = time.perf_counter()
        with library():
            step(rows[:batch], piece)
        return time.perf_counter() - began

    on_cpu = job["device"] == "cpu"
    pieces = [piece for piece in PIECES if on_cpu and piece < batch] + [batch]
    ways = list(
        itertools.product(pieces, (nullcontext, products.fast) if on_cpu else (nullcontext,))
    )
    for way in ways:
        seconds(way)
    piece, library = min(ways, key=lambda way: min(seconds(way) for _ in range(2)))
    stream = worker.batches(rows, job, clock)
    with library():
        for _ in range(job["steps"] + 1):
            step(next(stream), piece)
    clock.stop()
    return {}


worker.serve(train)
