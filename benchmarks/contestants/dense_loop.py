"""The plain dense loop: autograd and fused Adam, nothing else."""

import torch
import worker


def train(job, clock):
    rows, start = worker.load(job)
    p = {name: w.to(job["device"]).requires_grad_() for name, w in start.items()}
    optimizer = torch.optim.Adam(p.values(), lr=job["lr"], fused=True)
    stream = worker.batches(rows, job, clock)
    for _ in range(job["steps"] + 1):
        x = next(stream)
        pre = (x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]
        if job["architecture"] == "relu":
            h = pre.relu()
        else:
            kept = pre.topk(job["k"], dim=1)
            h = torch.zeros_like(pre).scatter(1, kept.indices, kept.values.relu())
        loss = (h @ p["W_dec"] + p["b_dec"] - x).square().mean()
        if job["architecture"] == "relu":
            loss = loss + job["l1"] * h.sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), 1 / x.shape[1])
        optimizer.step()
        with torch.no_grad():
            p["W_dec"].div_(torch.linalg.vector_norm(p["W_dec"], dim=1, keepdim=True))
    clock.stop()
    return p


worker.serve(train)
