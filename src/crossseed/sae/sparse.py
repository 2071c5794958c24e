"""Gradients of SAEs of which few latents are active: one dense product a token, the encoder's; all else is sums over
the active latents.

What is active is kept as a sparse matrix by token (`Active`) and read by latent for the gradients of the weights. Each sum
runs over its terms in a fixed order, so that the same input gives the same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossseed import products
from crossseed.sae.training import Gradients, Weights, scale_of

# Values a group of which only the largest is looked at first.
GROUP = 16
# Pre-activations held at once.
BLOCK_BYTES = 16 << 20
# Sums by latent are made for so many bytes of rows at a time, which stay in cache until they are stored.
SUM_BYTES = 512 << 10
# Latents are found by the rows' numbers and values, in order.
Found = tuple[np.ndarray, np.ndarray]
Choose = Callable[[np.ndarray], Found]


def pays(width: int, n_latents: int, k: int, device: torch.device) -> bool:
    """Whether sums over k active latents a token are faster than dense products.

    Measured on one core, both take as long at 12 latents a kept one for a width of 64 and at 4 for 512, and at twice as many
    where `products.fast` doubles the speed of products: an active latent costs what its row does, and as much again as some
    500 numbers. On a GPU dense products are the faster; a PyTorch without MKL, as on ARM, has no such sums (`Active.products`).
    """
    here = device.type == "cpu" and torch.backends.mkl.is_available()
    times = 2 if here and products.by_onednn() else 1
    return here and n_latents >= times * (4 + 512 / width) * k


def candidates(values_nm: np.ndarray, k: int) -> Found:
    """Places in the flattened array (rows, values), rising, and values of what can be among the k largest of its row and
    is above 0; (found,) both.

    The k-th largest of the maxima of groups bounds the k-th largest of all from below; few others exceed it.
    """
    m = values_nm.shape[1]
    least = np.full(1, np.finfo(np.float32).tiny, np.float32)
    size = min(GROUP, m // (2 * k))
    if size > 1:
        groups = m // size
        heads = torch.from_numpy(values_nm)[:, : size * groups].unflatten(1, (size, groups))
        maxima = heads.amax(dim=1).numpy()
        bound = np.partition(maxima, groups - k, axis=1)[:, groups - k : groups - k + 1]
        least = np.maximum(bound, least)
    # NumPy compares three times as fast as PyTorch.
    at = np.flatnonzero(values_nm >= least)
    return at, values_nm.reshape(-1)[at]


def k_largest(values_nm: np.ndarray, k: int) -> Found:
    """Places and values, (found,) both, of what is above 0 and not less than the k-th largest of its row of (rows, values):
    where there are ties, more than k."""
    n, m = values_nm.shape
    at, values = candidates(values_nm, k)
    row = at // m
    starts = np.searchsorted(row, np.arange(n + 1))
    longest = int(np.diff(starts).max())
    if longest <= k:
        return at, values
    table = np.zeros((n, longest), np.float32)
    table[row, np.arange(len(at)) - starts[row]] = values
    kept = values >= np.partition(table, longest - k, axis=1)[row, longest - k]
    return at[kept], values[kept]


class Active(NamedTuple):
    """Active latents of a batch, in the order of its tokens.

    Attributes:
        token, latent: numbers, (active,) int64. value: (active,) float32.
        starts: where each token's begin, and their number at the end, (tokens + 1,) int64.
        n_latents: of the dictionary.
    """

    token: Tensor
    latent: Tensor
    value: Tensor
    starts: Tensor
    n_latents: int

    @staticmethod
    def of(
        parts: Sequence[Found], m: int, n_tokens: int, latents: np.ndarray | None, n: int
    ) -> Active:
        """Of what blocks of rows hold.

        Args:
            parts: places in all rows, and values. m: values a row.
            latents: which ones the values of a row are of, (m,); None for all n.
        """
        at, value = (np.concatenate(found) for found in zip(*parts, strict=True))
        token, column = np.divmod(at, m)
        starts = np.searchsorted(token, np.arange(n_tokens + 1))
        latent = column if latents is None else latents[column]
        found = [torch.from_numpy(array) for array in (token, latent, value, starts)]
        return Active(found[0], found[1], found[2], found[3], n)

    def decode(self, rows_fd: Tensor) -> Tensor:
        """Σ over a token's active latents of value × row, (tokens, width)."""
        return F.embedding_bag(
            self.latent, rows_fd, self.starts, mode="sum", per_sample_weights=self.value,
            include_last_offset=True,
        )  # fmt: skip

    def products(self, of_token: Tensor, of_latent: Tensor) -> Tensor:
        """The inner product of the token's row and the latent's for each active latent, (active,)."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            where = torch.sparse_csr_tensor(
                self.starts, self.latent, self.value, (len(of_token), self.n_latents),
                check_invariants=False,
            )  # fmt: skip
        return torch.sparse.sampled_addmm(where, of_token, of_latent.T, beta=0).values()


class ByLatent:
    """Active latents read latent by latent.

    Args:
        active: them.
    """

    def __init__(self, active: Active) -> None:
        latent, n = active.latent.numpy(), active.n_latents
        # Numbers of 16 bits are sorted by counting, ten times as fast.
        small = latent.astype(np.uint16) if n <= 1 << 16 else latent
        order = np.argsort(small, kind="stable")
        self.order = torch.from_numpy(order)
        self.token = active.token[self.order]
        self.starts = np.searchsorted(latent[order], np.arange(n + 1))

    def sums(self, rows_nd: Tensor, weight: Tensor, out_fd: Tensor, add: bool) -> None:
        """Σ over the tokens at which a latent is active of weight × row, into or onto `out_fd`.

        Args:
            rows_nd: (tokens, width). weight: of each active latent, (active,), by token. out_fd: (latents, width).
            add: onto what is there.
        """
        weight = weight[self.order]
        step = max(1, SUM_BYTES // (4 * rows_nd.shape[1]))
        for first in range(0, len(out_fd), step):
            starts = self.starts[first : first + step + 1]
            here = slice(starts[0], starts[-1])
            found = F.embedding_bag(
                self.token[here], rows_nd, torch.from_numpy(starts - starts[0]), mode="sum",
                per_sample_weights=weight[here], include_last_offset=True,
            )  # fmt: skip
            out = out_fd[first : first + step]
            if add:
                out.add_(found)
            else:
                out.copy_(found)


def backpropagate(
    gradients: Gradients,
    weights: Weights,
    x_bd: Tensor,
    choose: Choose,
    whole: bool,
    dead: Tensor | None,
    aux_k: int,
    aux_coefficient: float,
) -> None:
    """`Gradients.backpropagate`, where few latents are active.

    Args:
        gradients, weights, x_bd, dead, aux_coefficient: as there.
        choose: places and values of the active among pre-activations (tokens, latents).
        whole: `choose` wants those of the batch at once.
        aux_k: dead latents that AuxK lets fire per token.
    """
    batch, width = x_bd.shape
    n = weights.b_enc.shape[0]
    scale = scale_of(x_bd)
    centred = torch.sub(x_bd, weights.b_dec, out=gradients.buffer("x", batch, width))
    rows = batch if whole else max(1, BLOCK_BYTES // (4 * n))
    found: list[Found] = []
    of_dead: list[Found] = []
    for first in range(0, batch, rows):
        block = centred[first : first + rows]
        with products.fast():
            pre = torch.mm(block, weights.W_enc, out=gradients.buffer("h", len(block), n))
        pre.add_(weights.b_enc)
        at, value = choose(pre.numpy())
        found.append((at + first * n, value))
        if dead is not None:
            at, value = k_largest(pre[:, dead].numpy(), aux_k)
            of_dead.append((at + first * len(dead), value))
    active = Active.of(found, n, batch, None, n)
    gradients.activity.copy_(_counted(active, active.value))
    error = active.decode(weights.W_dec).sub_(centred)
    gradients.b_dec.copy_(error.sum(dim=0))
    _add(gradients, weights, active, centred, error, scale, add=False)
    gradients.loss += torch.vdot(error.view(-1), error.view(-1)) * (scale / 2)
    if dead is not None:
        active = Active.of(of_dead, len(dead), batch, dead.numpy(), n)
        miss = active.decode(weights.W_dec).add_(error)  # ê − (x − x̂), as error = x̂ − x
        _add(gradients, weights, active, centred, miss, scale * aux_coefficient, add=True)
        squares = torch.vdot(miss.view(-1), miss.view(-1))
        gradients.loss += squares * (scale / 2 * aux_coefficient)
    # b_dec is both subtracted from the input and added to the output.
    gradients.b_dec.mul_(scale).addmv_(weights.W_enc, gradients.b_enc, alpha=-1)


def _add(
    gradients: Gradients,
    weights: Weights,
    active: Active,
    centred: Tensor,
    error: Tensor,
    scale: float,
    add: bool,
) -> None:
    """Gradients of scale/2 · Σ error² by what is active; without `add`, in place of what was there."""
    by_pre = active.products(error, weights.W_dec) * scale
    by_latent = ByLatent(active)
    by_latent.sums(error, active.value * scale, gradients.W_dec, add)
    by_latent.sums(centred, by_pre, gradients.W_enc.T, add)
    gradients.b_enc.add_(_counted(active, by_pre))


def _counted(active: Active, weight: Tensor) -> Tensor:
    """Σ of weights of each latent, (latents,)."""
    sums = np.bincount(active.latent.numpy(), weight.numpy(), active.n_latents)
    return torch.from_numpy(sums.astype(np.float32))
