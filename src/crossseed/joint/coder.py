"""An encoder and a decoder of which few latents are kept.

Kept latents are few: products with codes are sums of k rows instead of dense products, forward and backward, and the
encoder's gradient likewise. Of the five dense products of a step one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossseed.joint.config import CROSSCODER, JointTraining
from crossseed.sae.architectures.batchtopk import RATE, largest_left_out
from crossseed.seeding import generator

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


class Codes(NamedTuple):
    """Kept latents of some tokens.

    Attributes:
        values_nk: (tokens, kept), 0 where fewer are kept. latents_nk: their numbers, int64.
        n_latents: of the dictionary.
    """

    values_nk: Tensor
    latents_nk: Tensor
    n_latents: int

    def dense(self) -> Tensor:
        """(tokens, latents)."""
        rows = self.values_nk.new_zeros(len(self.values_nk), self.n_latents)
        # Added, not put: a place that is not used names latent 0.
        return rows.scatter_add_(1, self.latents_nk, self.values_nk)

    def part(self, first: int, last: int) -> Codes:
        """Those of some tokens."""
        return Codes(self.values_nk[first:last], self.latents_nk[first:last], self.n_latents)


class Coding(NamedTuple):
    """What an encoder makes of some tokens.

    Attributes:
        codes: kept latents.
        dead_nj: pre-activations of dead latents, 0 but for those AuxK lets fire, (tokens, dead); None without AuxK.
    """

    codes: Codes
    dead_nj: Tensor | None


class _ByLatent:
    """Kept latents of some tokens, sorted by latent, for the transposed product with sparse codes.

    Args:
        latents_nk: (tokens, kept). n_latents: of the dictionary.
    """

    def __init__(self, latents_nk: Tensor, n_latents: int) -> None:
        flat = latents_nk.flatten()
        self.order = torch.argsort(flat, stable=True)
        self.token = torch.div(self.order, latents_nk.shape[1], rounding_mode="floor")
        counts = torch.bincount(flat, minlength=n_latents)
        self.starts = counts.cumsum(0) - counts

    def summed(self, rows_nd: Tensor, weights_nk: Tensor) -> Tensor:
        """Σ over tokens of weight × row, for each latent, (latents, width)."""
        weights = weights_nk.flatten()[self.order]
        return F.embedding_bag(
            self.token, rows_nd, self.starts, per_sample_weights=weights, mode="sum"
        )


class _Encode(torch.autograd.Function):
    """Pre-activations of chosen latents, whose gradient by the weights is that of a sparse product."""

    @staticmethod
    def forward(
        ctx: Any,
        u_nd: Tensor,
        W_fd: Tensor,
        b_f: Tensor,
        pre_nf: Tensor,
        latents_nk: Tensor,
        dead_j: Tensor | None,
        fires_nj: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(u_nd, latents_nk, dead_j, fires_nj)
        ctx.n_latents = len(W_fd)
        dead = None if dead_j is None or fires_nj is None else pre_nf[:, dead_j] * fires_nj
        return pre_nf.gather(1, latents_nk), dead

    @staticmethod
    def backward(ctx: Any, by_kept: Tensor, by_dead: Tensor | None) -> tuple[Tensor | None, ...]:
        u_nd, latents_nk, dead_j, fires_nj = ctx.saved_tensors
        by = _ByLatent(latents_nk, ctx.n_latents)
        W = by.summed(u_nd, by_kept)
        # The same sums, not atomic additions, so that a GPU gives the same bits each time.
        b = by.summed(torch.ones_like(u_nd[:, :1]), by_kept).squeeze(1)
        if dead_j is not None and by_dead is not None:
            g = by_dead * fires_nj
            W.index_add_(0, dead_j, g.T @ u_nd)
            b.index_add_(0, dead_j, g.sum(dim=0))
        return None, W, b, None, None, None, None


class _Decode(torch.autograd.Function):
    """Σ over kept latents of value × row of the decoder."""

    @staticmethod
    def forward(ctx: Any, values_nk: Tensor, latents_nk: Tensor, W_fd: Tensor) -> Tensor:
        ctx.save_for_backward(values_nk, latents_nk, W_fd)
        return F.embedding_bag(latents_nk, W_fd, per_sample_weights=values_nk, mode="sum")

    @staticmethod
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor | None, ...]:
        values_nk, latents_nk, W_fd = ctx.saved_tensors
        by_y = by_y.contiguous()
        n, k = values_nk.shape
        bag = torch.arange(n, device=by_y.device).repeat_interleave(k)
        starts = torch.arange(0, n * k, k, device=by_y.device)
        by_values = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            by_y, W_fd, latents_nk.flatten(), starts, bag, 0
        )
        return (
            by_values.view(n, k),
            None,
            _ByLatent(latents_nk, len(W_fd)).summed(by_y, values_nk),
        )


class _UnitRows(torch.autograd.Function):
    """Rows divided by their lengths."""

    @staticmethod
    def forward(ctx: Any, W_fd: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(W_fd, dim=1, keepdim=True)
        unit = W_fd / lengths
        ctx.save_for_backward(unit, lengths)
        return unit

    @staticmethod
    def backward(ctx: Any, by_unit: Tensor) -> Tensor:
        unit, lengths = ctx.saved_tensors
        along = torch.linalg.vecdot(by_unit, unit).unsqueeze(1)
        return torch.addcmul(by_unit, along, unit, value=-1).div_(lengths)


_encode: Callable[..., tuple[Tensor, Tensor | None]] = _Encode.apply
_decode: Callable[..., Tensor] = _Decode.apply
_unit_rows: Callable[..., Tensor] = _UnitRows.apply


def initial_arrays(width: int, n_latents: int, *seed: object) -> dict[str, np.ndarray]:
    """Weights before training: an orthogonal decoder (Table A1); what is unspecified as `torch.nn.Linear` starts.

    Args:
        width: of what is encoded. n_latents: of the dictionary.
        seed: names the draw; equal names give equal weights.

    Returns:
        Float32 ``W_enc`` and ``W_dec`` (latents, width), ``b_enc`` (latents,), ``b_dec`` (width,).
    """
    rng = generator("joint-initialisation", *seed)

    def uniform(fan_in: int, *shape: int) -> np.ndarray:
        return ((2 * rng.random(shape, dtype=np.float32) - 1) / np.sqrt(fan_in)).astype(np.float32)

    encoder = uniform(width, n_latents, width), uniform(width, n_latents)
    tall = rng.standard_normal((max(n_latents, width), min(n_latents, width)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))
    decoder = (q if n_latents >= width else q.T).astype(np.float32)
    return {
        "W_enc": encoder[0],
        "b_enc": encoder[1],
        "W_dec": np.ascontiguousarray(decoder),
        "b_dec": uniform(n_latents, width),
    }


class Coder:
    """One encoder and decoder.

    Args:
        config: of the training.
        arrays: weights, see `initial_arrays`, and optionally ``threshold``.
        device: where they lie.

    Attributes:
        weights: tensors by name, with gradients.
        threshold: running mean of the smallest kept value, of BatchTopK; below 0 where no batch was seen.
    """

    def __init__(
        self, config: JointTraining, arrays: Mapping[str, np.ndarray], device: str
    ) -> None:
        self.config = config
        self.weights = {
            name: torch.from_numpy(arrays[name].copy()).to(device).requires_grad_()
            for name in WEIGHTS
        }
        running = np.asarray(arrays.get("threshold", -1.0), dtype=np.float32)
        self.threshold = torch.from_numpy(running.copy()).to(device)
        self.n_latents = len(arrays["b_enc"])

    def decoder(self) -> Tensor:
        """Unit rows, (latents, width): the decoder's columns as used (divided by their lengths in the forward pass)."""
        return _unit_rows(self.weights["W_dec"])

    def encode(self, u_nd: Tensor, dead_j: Tensor | None = None, training: bool = False) -> Coding:
        """Codes of some rows.

        Args:
            u_nd: (tokens, width). dead_j: numbers of dead latents, for AuxK.
            training: BatchTopK keeps k a token on average over these rows, and remembers their threshold.
        """
        W, b = self.weights["W_enc"], self.weights["b_enc"]
        with torch.no_grad():
            # Not addmm: under autocast its bias would be rounded too.
            pre = F.linear(u_nd, W).float().add_(b)
            latents, kept = self._chosen(pre, training)
            fires = None if dead_j is None else self._dead_that_fire(pre, dead_j)
        values, dead = _encode(u_nd, W, b, pre, latents, dead_j, fires)
        if kept is not None:
            values = values * kept
        elif self.config.relu_after_topk:
            values = values.relu()
        return Coding(Codes(values, latents, self.n_latents), dead)

    def _chosen(self, pre_nf: Tensor, training: bool) -> tuple[Tensor, Tensor | None]:
        k = self.config.k
        if self.config.kind != CROSSCODER:
            return pre_nf.topk(k, dim=1, sorted=False).indices, None
        if training:
            least = largest_left_out(pre_nf.flatten(), k * len(pre_nf)).clamp_min(0)
            smallest = torch.where(pre_nf > least, pre_nf, torch.inf).min()
            if torch.isfinite(smallest):
                first = self.threshold < 0
                self.threshold.copy_(
                    torch.where(first, smallest, self.threshold.lerp(smallest, RATE))
                )
        else:
            least = self.threshold.clamp_min(0)
        most = int((pre_nf > least).sum(dim=1).max())
        found = pre_nf.topk(max(most, 1), dim=1, sorted=False)
        return found.indices, (found.values > least).to(pre_nf)

    def _dead_that_fire(self, pre_nf: Tensor, dead_j: Tensor) -> Tensor:
        """1 where AuxK lets a dead latent fire, whatever its sign, (tokens, dead)."""
        pre = pre_nf[:, dead_j]
        n, k = pre.shape[1], self.config.aux_k
        if n <= k:
            return torch.ones_like(pre)
        if pre.device.type == "cpu":
            # Several times as fast as PyTorch's.
            least = torch.from_numpy(np.partition(pre.numpy(), n - k, axis=1)[:, n - k, None])
        else:
            least = pre.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
        return (pre >= least).to(pre)

    def decode(self, codes: Codes, decoder_fd: Tensor) -> Tensor:
        """Reconstructions, (tokens, width); `decoder_fd` as `decoder` gives it."""
        return _decode(codes.values_nk, codes.latents_nk, decoder_fd) + self.weights["b_dec"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights and threshold."""
        found = {name: w.detach().cpu().numpy().copy() for name, w in self.weights.items()}
        return {**found, "threshold": self.threshold.cpu().numpy().copy()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes back what `arrays` gave."""
        with torch.no_grad():
            for name, tensor in {**self.weights, "threshold": self.threshold}.items():
                tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))
