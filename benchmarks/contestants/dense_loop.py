"""The plain dense loop: autograd and fused Adam, nothing else."""

import json
import sys
import time

import numpy as np
import torch


def main(job):
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    rows = torch.from_numpy(np.load(job["rows"])).to(job["device"])
    batch = job["batch"]
    start = dict(np.load(job["start"]))
    p = {k: torch.from_numpy(v).to(job["device"]).requires_grad_() for k, v in start.items()}
    optimizer = torch.optim.Adam(p.values(), lr=job["lr"], fused=True)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows))).to(job["device"])
    per_epoch = len(rows) // batch
    began = time.perf_counter()
    for step in range(job["steps"]):
        at = (step % per_epoch) * batch
        x = rows[order[at : at + batch]]
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
    if job["device"] == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    np.savez(job["out"], **{k: v.detach().cpu().numpy() for k, v in p.items()})
    print(json.dumps({"seconds": seconds}))


main(json.loads(sys.argv[1]))
