"""Training of SAEs with closed-form gradients.

x̂ = W_decᵀ h + b_dec with h = activate((x − b_dec) W_enc + b_enc). Every architecture that
gates a linear encoder shares `Gradients.backpropagate`: five matrix products a token, the
elementwise work done on blocks of rows that stay in the processor's cache, no autograd graph,
no allocation. Decoder rows keep unit norm: the gradient is projected, and after each step
the norm moves into the encoder (arXiv 2605.24577, appendix on SAEs) unless `absorb_norms` is false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed import products
from crossseed.activations import BatchStream
from crossseed.adam import Adam
from crossseed.errors import TrainingDiverged, UserError
from crossseed.progress import Progress
from crossseed.resume import Resume
from crossseed.sae.architectures import module_of
from crossseed.sae.config import DictionaryConfig
from crossseed.sae.objective import Objective
from crossseed.seeding import generator

# Of so many rows, latents stay in a processor's cache between products and what is done to them one by one; of fewer, the
# products take longer, since each block reads and writes the gradients of all weights.
BLOCK_ROWS = 1024
# Rows of one matrix that are updated at once: they, their gradients and moments stay in cache from projection to norm.
UPDATE_BYTES = 512 << 10
CHECK_EVERY_STEPS = 20
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")
Activate = Callable[[Tensor], Tensor]


class Weights(NamedTuple):
    """Parameters of one SAE in training.

    Attributes:
        W_enc: (width, latents). b_enc: (latents,). W_dec: (latents, width), unit rows.
        b_dec: (width,).
        silent_tokens: training tokens since each latent last fired, (latents,) int64.
        more: what the architecture has beside these.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    silent_tokens: Tensor
    more: dict[str, Tensor]


def initial_arrays(width: int, n_latents: int, tied: bool, *seed: object) -> dict[str, np.ndarray]:
    """Weights before training: W_enc ~ N(0, 1/width), unit-norm decoder rows, zero biases.

    Args:
        width: activation size. n_latents: dictionary size.
        tied: decoder rows are the normalised encoder columns instead of independent draws.
        seed: names the draw; equal names give equal weights.
    """
    rng = generator("sae-initialisation", *seed)
    W_enc = rng.standard_normal((width, n_latents), dtype=np.float32) / np.float32(np.sqrt(width))
    W_dec = W_enc.T.copy() if tied else rng.standard_normal((n_latents, width), dtype=np.float32)
    W_dec /= np.linalg.norm(W_dec, axis=1, keepdims=True)
    return {
        "W_enc": W_enc,
        "b_enc": np.zeros(n_latents, np.float32),
        "W_dec": W_dec,
        "b_dec": np.zeros(width, np.float32),
    }


def scale_of(x_bd: Tensor) -> float:
    """What gradients are multiplied with at the end: of the mean over (tokens, dimensions) of a square."""
    return 2.0 / x_bd.numel()


class Gradients:
    """Gradients of the loss, accumulated over blocks of rows.

    Args:
        weights: parameters whose shapes and device the buffers take.
        trained: those of ``weights.more`` that have gradients.
    """

    def __init__(self, weights: Weights, trained: Sequence[str] = ()) -> None:
        self.more = {name: torch.zeros_like(weights.more[name]) for name in trained}
        self.W_enc = torch.zeros_like(weights.W_enc)
        self.b_enc = torch.zeros_like(weights.b_enc)
        self.W_dec = torch.zeros_like(weights.W_dec)
        self.b_dec = torch.zeros_like(weights.b_dec)
        self.loss = torch.zeros((), device=weights.W_enc.device)
        self.activity = torch.zeros_like(weights.b_enc)
        on_cpu = weights.W_enc.device.type == "cpu"
        self.block_rows = BLOCK_ROWS if on_cpu else 1 << 30
        self._buffers: dict[tuple[str, int], Tensor] = {}
        self._empty = weights.W_enc.new_empty

    def in_order(self) -> list[Tensor]:
        """Gradients in the order and shapes of `Weights`, then of what else is trained."""
        return [self.W_enc, self.b_enc, self.W_dec, self.b_dec, *self.more.values()]

    def clear(self) -> None:
        """Zeros in all but W_enc and W_dec, which `backpropagate` overwrites."""
        for tensor in (self.b_enc, self.b_dec, *self.more.values(), self.loss, self.activity):
            tensor.zero_()

    def buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """Room for (rows, columns) of one purpose, kept from block to block; what is in it is undefined."""
        key = (name, rows)
        if key not in self._buffers:
            self._buffers[key] = self._empty((rows, columns))
        return self._buffers[key]

    def backpropagate(
        self,
        weights: Weights,
        x_bd: Tensor,
        activate: Activate,
        l1: float = 0.0,
        dead: Tensor | None = None,
        activate_dead: Activate | None = None,
        aux_coefficient: float = 0.0,
        observe: Callable[[Tensor, Tensor], None] | None = None,
    ) -> None:
        """Adds the loss and gradients of one batch.

        Loss = mean over tokens and dimensions of ‖x − x̂‖² + l1 · mean over tokens of Σ h
        (+ the auxiliary loss of dead latents).

        Args:
            weights: the parameters.
            x_bd: activations, shape (tokens, width).
            activate: latents from pre-activations, in place; its gradient must be 1 where
                the latent is positive and 0 elsewhere.
            l1: weight of the sparsity penalty.
            dead: indices of dead latents, or None for no auxiliary loss.
            activate_dead: as `activate`, for the dead latents alone.
            aux_coefficient: weight of the auxiliary loss.
            observe: is shown each block's latents, and the gradient of the squared error by them before it is
                cut to those that are active, over `scale_of` of the batch.
        """
        batch, width = x_bd.shape
        n = weights.b_enc.shape[0]
        scale = scale_of(x_bd)
        penalty = l1 / batch / scale
        error_sum = torch.zeros_like(weights.b_dec)
        ones = torch.ones_like(x_bd[: self.block_rows, 0])
        for number, x in enumerate(x_bd.split(self.block_rows)):
            rows, add = len(x), min(number, 1)
            centred = torch.sub(x, weights.b_dec, out=self.buffer("x", rows, width))
            h, g = self.buffer("h", rows, n), self.buffer("g", rows, n)
            with products.fast():
                activate(torch.mm(centred, weights.W_enc, out=h).add_(weights.b_enc))
                error = torch.addmm(
                    centred, h, weights.W_dec, beta=-1, out=self.buffer("e", rows, width)
                )
                torch.mm(error, weights.W_dec.T, out=g)
                if penalty:
                    g.add_(penalty)
                if observe is not None:
                    observe(h, g)
                torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)
                torch.addmm(self.W_dec, h.T, error, beta=add, alpha=scale, out=self.W_dec)
                torch.addmm(self.W_enc, centred.T, g, beta=add, alpha=scale, out=self.W_enc)
            self.b_enc.addmv_(g.T, ones[:rows])
            self.activity.addmv_(h.T, ones[:rows])
            error_sum.addmv_(error.T, ones[:rows])
            self.loss += torch.vdot(error.view(-1), error.view(-1)) * (scale / 2)
            if dead is not None and activate_dead is not None:
                aux = (dead, activate_dead, aux_coefficient)
                self.loss += self._auxiliary(weights, centred, error, *aux, scale) * (scale / 2)
        # b_dec is both subtracted from the input and added to the output.
        self.b_dec.add_(error_sum).addmv_(weights.W_enc, self.b_enc, alpha=-1)
        if l1:
            self.loss += self.activity.sum() * (l1 / batch)
        for gradient in (self.b_enc, self.b_dec, *self.more.values()):
            gradient *= scale

    def _auxiliary(
        self,
        weights: Weights,
        centred: Tensor,
        error: Tensor,
        dead: Tensor,
        activate: Activate,
        coefficient: float,
        scale: float,
    ) -> Tensor:
        """Dead latents reconstruct what is left over; the target gets no gradient.

        Returns the weighted sum of squared misses.
        """
        W_enc, W_dec = weights.W_enc[:, dead], weights.W_dec[dead]
        h = activate(torch.addmm(weights.b_enc[dead], centred, W_enc))
        miss = torch.addmm(error, h, W_dec)  # ê − (x − x̂), as error = x̂ − x
        g = (miss @ W_dec.T).mul_(h > 0).mul_(coefficient)
        self.W_dec.index_add_(0, dead, h.T @ miss, alpha=coefficient * scale)
        self.W_enc.index_add_(1, dead, centred.T @ g, alpha=scale)
        self.b_enc.index_add_(0, dead, g.sum(dim=0))
        return torch.vdot(miss.view(-1), miss.view(-1)) * coefficient


def rate_factor(step: int, config: DictionaryConfig) -> float:
    """Learning rate at a step, as a share of the configured one."""
    up = (step + 1) / config.warmup_steps if config.warmup_steps else 1.0
    down = (config.steps - step) / config.decay_steps if config.decay_steps else 1.0
    return min(1.0, up, down)


def _by_latent(tensors: Sequence[Tensor]) -> list[Tensor]:
    """W_enc, b_enc, W_dec, b_dec and more, such that the first dimension of all but the last is the latents."""
    W_enc, b_enc, W_dec, b_dec, *more = tensors
    return [W_enc.T, b_enc, W_dec, *more, b_dec]


class Trainer:
    """One SAE in training.

    Args:
        config: the variant.
        arrays: initial weights, see `initial_arrays`.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(
        self, config: DictionaryConfig, arrays: dict[str, np.ndarray], device: str
    ) -> None:
        def tensor(name: str) -> Tensor:
            return torch.from_numpy(arrays[name].copy()).to(device)

        n = len(arrays["b_enc"])
        silent = torch.zeros(n, dtype=torch.int64, device=device)
        self.config = config
        self.objective: Objective = module_of(config.architecture).Objective(config)
        more = {
            name: torch.from_numpy(value.copy()).to(device)
            for name, value in self.objective.more(n).items()
        }
        # A latent's weights lie side by side, in the encoder too.
        W_enc = torch.from_numpy(arrays["W_enc"].T.copy()).to(device).T
        self.weights = Weights(
            W_enc, tensor("b_enc"), tensor("W_dec"), tensor("b_dec"), silent, more
        )
        self.gradients = Gradients(self.weights, self.objective.trained)
        self.trained = [*self.weights[:4], *(more[name] for name in self.objective.trained)]
        # By latent, so that rows can be updated block by block; what is not by latent is the last.
        self.adam = Adam(_by_latent(self.trained))
        rows = max(1, UPDATE_BYTES // (4 * W_enc.shape[0])) if W_enc.device.type == "cpu" else n
        self.blocks = [slice(first, first + rows) for first in range(0, n, rows)]

    @torch.no_grad()
    def step(self, x_bd: Tensor, step: int) -> None:
        """One Adam step on a batch of activations, shape (tokens, width)."""
        weights, gradients = self.weights, self.gradients
        gradients.clear()
        self.objective.gradients(weights, x_bd, gradients)
        fired = gradients.activity > 0
        weights.silent_tokens.add_(len(x_bd)).masked_fill_(fired, 0)
        for rows in self.blocks:
            by_rows, unit = gradients.W_dec[rows], weights.W_dec[rows]
            along = torch.linalg.vecdot(by_rows, unit).unsqueeze(1)
            by_rows.addcmul_(along, unit, value=-1)
        lr = self.config.lr * rate_factor(step, self.config)
        ordered = _by_latent(gradients.in_order())
        too_long = self.adam.begin(ordered, self.config.grad_clip)
        last = len(ordered) - 1
        self.adam.update(ordered, lr, too_long, slice(last, None))
        norms = torch.empty_like(weights.b_enc)
        for rows in self.blocks:
            self.adam.update(ordered, lr, too_long, slice(last), rows)
            unit = weights.W_dec[rows]
            torch.linalg.vector_norm(unit, dim=1, out=norms[rows])
            unit.div_(norms[rows].unsqueeze(1))
            if self.config.absorb_norms:
                weights.W_enc.T[rows].mul_(norms[rows].unsqueeze(1))
        if self.config.absorb_norms:
            weights.b_enc.mul_(norms)
            self.objective.rescale(weights, norms)

    def _state(self) -> dict[str, Tensor]:
        return {**dict(zip(NAMES, self.weights[:4], strict=True)), **self.weights.more}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: tensor.cpu().numpy().copy() for name, tensor in self._state().items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights under SAELens names."""
        return self.objective.export(self._arrays())

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights and optimiser state, for a resume file."""
        silent = self.weights.silent_tokens.cpu().numpy().copy()
        return {**self._arrays(), **self.adam.tensors(), "silent": silent}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Takes back what `tensors` gave."""
        for name, tensor in self._state().items():
            tensor.copy_(torch.from_numpy(tensors[name]))
        self.weights.silent_tokens.copy_(torch.from_numpy(tensors["silent"]))
        self.adam.restore(tensors)


def train(
    config: DictionaryConfig,
    expansion: int,
    stream: BatchStream,
    device: str,
    resume: Resume,
    init: tuple[object, ...],
    cell: str,
    after_step: Callable[[int], None] = lambda step: None,
) -> dict[str, np.ndarray]:
    """Trains one SAE.

    Args:
        config: the variant.
        expansion: latents as a multiple of the activation width.
        stream: training batches.
        device: ``cpu`` or ``cuda``.
        resume: where the state is kept between kills.
        init: names the initial weights; equal names start equal.
        cell: the cell's name, for messages.
        after_step: called with the number of steps done, for tests.

    Returns:
        W_enc, W_dec, b_dec, and what else the architecture has, as float32 arrays on the scale of the raw
        activations.

    Raises:
        TrainingDiverged: the loss became NaN or infinite.
        UserError: activations are to be standardised, but are constant.
    """
    torch.set_flush_denormal(True)
    n_latents = expansion * stream.width
    trainer = Trainer(
        config, initial_arrays(stream.width, n_latents, config.tied_init, *init), device
    )
    mean, scale = (np.zeros(stream.width), 1.0)
    if config.standardise:
        mean, scale = stream.mean_and_scale
        if scale == 0:
            raise UserError(f"{cell}: activations are constant; there is nothing to train on")
    step = 0
    saved = resume.load()
    if saved is not None:
        trainer.restore(saved[0])
        step = saved[1]["step"]
    progress = Progress(f"train {cell}", config.steps, step)
    for batch in _scaled(stream(step), mean, scale):
        if step == config.steps:
            break
        trainer.step(torch.from_numpy(batch).to(device), step)
        step += 1
        if step % CHECK_EVERY_STEPS == 0 or step == config.steps or config.steps < 100:
            loss = trainer.gradients.loss.item()
            if not np.isfinite(loss):
                resume.discard()
                raise TrainingDiverged(
                    f"{cell}: the loss is not finite at step {step}; lower lr ({config.lr}), "
                    "or set standardise: true"
                )
            progress.update(step, f"loss {loss:.5g}")
        if resume.due():
            resume.save(trainer.tensors(), {"step": step})
        after_step(step)
    progress.close()
    return _unscaled(trainer.arrays(), mean, scale, trainer.objective.in_units)


def _scaled(source: Iterator[np.ndarray], mean: np.ndarray, scale: float) -> Iterator[np.ndarray]:
    shift, factor = mean.astype(np.float32), np.float32(1 / scale)
    plain = not mean.any() and scale == 1.0
    for batch in source:
        yield batch if plain else (batch - shift) * factor


def _unscaled(
    arrays: dict[str, np.ndarray], mean: np.ndarray, scale: float, in_units: Sequence[str]
) -> dict[str, Any]:
    """Weights for raw activations from weights for (x − mean) / scale.

    Gates are positively homogeneous, thresholds included, so latents simply grow by `scale`.
    """
    grown = {name: (arrays[name] * scale).astype(np.float32) for name in in_units}
    return {**arrays, **grown, "b_dec": (arrays["b_dec"] * scale + mean).astype(np.float32)}
