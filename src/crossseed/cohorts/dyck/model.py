"""The 104,448-parameter Dyck-3 transformer (arXiv 2605.24577, appendix on the model).

Two pre-norm decoder blocks, RMSNorm, no biases, ReLU MLP, three linear heads on one
normalised residual. Tensor names and shapes follow the study, so that its checkpoints and
ours are exchangeable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossseed.cohorts.dyck import sites, task

D_MODEL = sites.D_MODEL
N_HEADS = 4
D_HEAD = 16
D_MLP = 256
N_LAYERS = sites.N_LAYERS
NORM_EPS = 1e-5
INIT_STD = 0.02
N_CLASSES = {"tok": task.VOCAB, "depth": task.N_DEPTHS, "valid": 2}
N_PARAMETERS = 104_448


Tap = Callable[[Tensor], Tensor]


def _untouched(value: Tensor) -> Tensor:
    return value


class Logits(NamedTuple):
    """Logits of the three heads, each of shape (batch, positions, classes of the head)."""

    tok: Tensor
    depth: Tensor
    valid: Tensor


def positional_table() -> Tensor:
    """The fixed positional table, shape (CONTEXT, D_MODEL), zero beyond column 5."""
    position = torch.arange(task.CONTEXT, dtype=torch.float64)
    table = torch.zeros(task.CONTEXT, D_MODEL, dtype=torch.float64)
    table[:, 0] = position / task.CONTEXT
    table[:, 1] = 1 / (position + 1)
    table[:, 2] = torch.log(position + 1) / math.log(task.CONTEXT)
    table[:, 3] = (position == 0).double()
    table[:, 4] = torch.cos(2 * math.pi * position / task.CONTEXT)
    table[:, 5] = torch.sin(2 * math.pi * position / task.CONTEXT)
    return table.float()


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(D_MODEL))

    def forward(self, x: Tensor) -> Tensor:
        """Vectors, (..., width), divided by their root mean square and scaled; of the same shape."""
        return F.rms_norm(x, (D_MODEL,), self.gain, NORM_EPS)


class Attention(nn.Module):
    """Causal attention; W_Q, W_K, W_V of shape (heads, d_head, d_model), W_O (heads, d_model, d_head)."""

    def __init__(self) -> None:
        super().__init__()
        self.W_Q = nn.Parameter(torch.empty(N_HEADS, D_HEAD, D_MODEL))
        self.W_K = nn.Parameter(torch.empty(N_HEADS, D_HEAD, D_MODEL))
        self.W_V = nn.Parameter(torch.empty(N_HEADS, D_HEAD, D_MODEL))
        self.W_O = nn.Parameter(torch.empty(N_HEADS, D_MODEL, D_HEAD))

    def heads(self, x: Tensor) -> Tensor:
        """What each head reads, (batch, positions, heads, d_head)."""
        batch, length, _ = x.shape
        weight = torch.cat([self.W_Q, self.W_K, self.W_V]).view(3 * N_HEADS * D_HEAD, D_MODEL)
        qkv = F.linear(x, weight).view(batch, length, 3, N_HEADS, D_HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    def head(self, x: Tensor, number: int) -> Tensor:
        """What one head reads, (batch, positions, d_head)."""
        q, k, v = (F.linear(x, weight[number]) for weight in (self.W_Q, self.W_K, self.W_V))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def out(self, z_bthd: Tensor) -> Tensor:
        """What that adds to the residual stream."""
        out = self.W_O.permute(1, 0, 2).reshape(D_MODEL, N_HEADS * D_HEAD)
        return F.linear(z_bthd.flatten(2), out)


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W_in = nn.Parameter(torch.empty(D_MLP, D_MODEL))
        self.W_out = nn.Parameter(torch.empty(D_MODEL, D_MLP))

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the stream, (batch, positions, width), of a stream of that shape."""
        return F.linear(self.neurons(x), self.W_out)

    def neurons(self, x: Tensor) -> Tensor:
        """Activations after the ReLU, (batch, positions, neurons)."""
        return F.relu(F.linear(x, self.W_in))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln1 = RMSNorm()
        self.attn = Attention()
        self.ln2 = RMSNorm()
        self.mlp = MLP()


class DyckTransformer(nn.Module):
    """Token ids of shape (batch, positions) to `Logits`.

    Args:
        seed: seeds the initialisation: gains 1, every other entry N(0, 0.02²).
    """

    W_pos: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(task.VOCAB, D_MODEL))
        self.blocks = nn.ModuleList([Block() for _ in range(N_LAYERS)])
        self.ln_f = RMSNorm()
        self.W_U_tok = nn.Parameter(torch.empty(N_CLASSES["tok"], D_MODEL))
        self.W_U_depth = nn.Parameter(torch.empty(N_CLASSES["depth"], D_MODEL))
        self.W_U_valid = nn.Parameter(torch.empty(N_CLASSES["valid"], D_MODEL))
        self.register_buffer("W_pos", positional_table())
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if not name.endswith("gain"):
                    parameter.normal_(0.0, INIT_STD, generator=generator)

    def embed(self, tokens_bt: Tensor) -> Tensor:
        """The residual stream before the first block."""
        return F.embedding(tokens_bt, self.W_E) + self.W_pos[: tokens_bt.shape[1]]

    def block(self, layer: int) -> Block:
        """One layer: attention and MLP."""
        found = self.blocks[layer]
        assert isinstance(found, Block)
        return found

    def sublayer(self, number: int, x: Tensor, tap: Tap = _untouched) -> Tensor:
        """The residual stream after a sublayer, from that before it: from `sites.SITES[number]` to the
        next site. Even numbers are attention, odd ones MLPs.

        Args:
            tap: is shown what the sublayer's heads, or its MLP, give, and says what goes on in place.
        """
        block = self.block(number // 2)
        if number % 2 == 0:
            return x + block.attn.out(tap(block.attn.heads(block.ln1(x))))
        return x + tap(block.mlp(block.ln2(x)))

    def residuals(self, tokens_bt: Tensor, wanted: set[str]) -> dict[str, Tensor]:
        """Residual activations by site name.

        Args:
            tokens_bt: token ids, shape (batch, positions).
            wanted: sites to keep; nothing beyond the last of them is computed.

        Returns:
            For each wanted site, float activations of shape (batch, positions, D_MODEL).

        Raises:
            ValueError: a wanted site is unknown.
        """
        found: dict[str, Tensor] = {}
        x = self.embed(tokens_bt)
        for number, name in enumerate(sites.SITES):
            if number:
                x = self.sublayer(number - 1, x)
            if name in wanted:
                found[name] = x
            if len(found) == len(wanted):
                return found
        raise ValueError(
            f"unknown sites {sorted(wanted - set(found))}; expected some of {sites.SITES}"
        )

    def predict(self, x: Tensor) -> Logits:
        """Logits of the residual stream after the last block, (..., D_MODEL)."""
        logits = F.linear(self.ln_f(x), torch.cat([self.W_U_tok, self.W_U_depth, self.W_U_valid]))
        return Logits(*logits.split(list(N_CLASSES.values()), dim=-1))

    def forward(self, tokens_bt: Tensor) -> Logits:
        """Logits by head of token ids, (batch, positions)."""
        x = self.embed(tokens_bt)
        for number in range(2 * N_LAYERS):
            x = self.sublayer(number, x)
        return self.predict(x)
