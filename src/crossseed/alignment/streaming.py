"""`Moments` accumulated on the device that computes the activations.

The same sums as in `crossseed.alignment.moments`, in torch: float32 products of provisionally
centred blocks into float64 accumulators. Memory is d × d, whatever the number of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossseed.alignment.moments import Moments


class DeviceMoments:
    """Moments of pairs (a, b) of tensors, rows of one token each.

    Args:
        width_a, width_b: sizes of a and b.
        device: where the sums are kept.
        cross_only: leave out the covariances of a and of b.
    """

    def __init__(
        self, width_a: int, width_b: int, device: torch.device, cross_only: bool = False
    ) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.n = 0
        self.cross_only = cross_only
        self._origin: tuple[Tensor, Tensor] | None = None
        self._a, self._b, self._ba = zeros(width_a), zeros(width_b), zeros(width_b, width_a)
        if not cross_only:
            self._aa, self._bb = zeros(width_a, width_a), zeros(width_b, width_b)

    def add(self, a_nd: Tensor, b_nd: Tensor) -> None:
        """Adds a block of paired float32 rows, (tokens, width_a) and (tokens, width_b).

        Raises:
            ValueError: the blocks differ in tokens.
        """
        if len(a_nd) != len(b_nd):
            raise ValueError(f"blocks of {len(a_nd)} and {len(b_nd)} rows are not paired")
        if len(a_nd) == 0:
            return
        if self._origin is None:
            self._origin = (a_nd.mean(dim=0), b_nd.mean(dim=0))
        a, b = a_nd - self._origin[0], b_nd - self._origin[1]
        self.n += len(a)
        self._a += a.sum(dim=0, dtype=torch.float64)
        self._b += b.sum(dim=0, dtype=torch.float64)
        self._ba += b.T @ a
        if not self.cross_only:
            self._aa += a.T @ a
            self._bb += b.T @ b

    def moments(self) -> Moments:
        """The sums so far, as the analyses take them; without covariances if `cross_only`."""
        found = Moments(len(self._a), len(self._b))
        found.n = self.n
        if self._origin is not None:
            found._origin_a, found._origin_b = (
                t.cpu().numpy().astype("float64") for t in self._origin
            )
        found._a, found._b, found._ba = (t.cpu().numpy() for t in (self._a, self._b, self._ba))
        if not self.cross_only:
            found._aa, found._bb = self._aa.cpu().numpy(), self._bb.cpu().numpy()
        return found
