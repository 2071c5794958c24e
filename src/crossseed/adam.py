"""Adam with decoupled weight decay, on PyTorch's fused kernel.

The kernel is called directly: constructing a `torch.optim` optimiser imports PyTorch's compiler,
which costs every short job two to three seconds. A test compares the steps with
`torch.optim.AdamW`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

EPS = 1e-8
ALL = slice(None)


class Adam:
    """Adam over a fixed list of parameters and their gradient buffers.

    Args:
        parameters: updated in place.
        betas: decay of the first and second moment.
        weight_decay: decoupled; 0 gives plain Adam.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = list(parameters)
        self.betas, self.weight_decay = betas, weight_decay
        device = self.parameters[0].device
        self.steps = [torch.zeros((), device=device) for _ in self.parameters]
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(
        self, gradients: Sequence[Tensor], lr: float | Tensor, max_norm: float | None = None
    ) -> None:
        """One update; on a GPU with a tensor `lr` it can be captured in a CUDA graph.

        Args:
            gradients: in the order of the parameters.
            lr: learning rate.
            max_norm: all gradients are scaled down together to this norm where it is
                exceeded; None leaves them as they are.
        """
        self.update(gradients, lr, self.begin(gradients, max_norm))

    @torch.no_grad()
    def begin(self, gradients: Sequence[Tensor], max_norm: float | None = None) -> Tensor | None:
        """Counts a step whose `update` comes in pieces; by how much gradients are longer than `max_norm`, at least 1."""
        torch._foreach_add_(self.steps, 1)
        if max_norm is None:
            return None
        norms = torch.stack(torch._foreach_norm(list(gradients)))
        return (torch.linalg.vector_norm(norms) / max_norm).clamp_min(1)

    @torch.no_grad()
    def update(
        self,
        gradients: Sequence[Tensor],
        lr: float | Tensor,
        too_long: Tensor | None,
        which: slice = ALL,
        rows: slice = ALL,
    ) -> None:
        """Updates some rows of some parameters.

        Args:
            gradients: in the order of the parameters; whole.
            lr: learning rate.
            too_long: of `begin`.
            which: parameters. rows: of each of them.
        """

        def chosen(tensors: Sequence[Tensor]) -> list[Tensor]:
            return list(tensors[which]) if rows == ALL else [t[rows] for t in tensors[which]]

        torch._fused_adamw_(
            chosen(self.parameters),
            chosen(gradients),
            chosen(self.first),
            chosen(self.second),
            [],
            self.steps[which],
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
            grad_scale=too_long,
        )

    def _named(self) -> dict[str, Tensor]:
        groups = {"steps": self.steps, "first": self.first, "second": self.second}
        return {f"adam/{k}/{i}": t for k, ts in groups.items() for i, t in enumerate(ts)}

    def tensors(self) -> dict[str, np.ndarray]:
        """State by name, for a resume file."""
        return {name: tensor.cpu().numpy().copy() for name, tensor in self._named().items()}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes back what `tensors` gave."""
        for name, tensor in self._named().items():
            tensor.copy_(torch.from_numpy(tensors[name]))
