"""The joint SAE, and those it is compared with: one encoder and decoder, used in five ways.

    joint        tokens of A and of B are rows of one SAE; two codes
    independent  one model's tokens, its own SAE
    mutual       two SAEs, each of one model's tokens (their decoders meet in the loss)
    crosscoder   a token's activations of A and of B side by side are one row, of twice the width; one code
    universal    two SAEs, of which one encodes and both decode; one code in training, two in use

Activations h are normalised in their own frame, z = (h − μ) / σ, and carried, u = z W; the SAE gives y for u. Then
ĥ = σ y W⁻¹ + μ is native, and σ (y − u) the error in the aligned frame, in units of activations (equation 5).

Kept latents are few: products with codes are sums of k rows instead of dense products, forward and backward, and the
encoder's gradient likewise. Of the five dense products of a step one is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossseed.alignment.maps import AffineMap, identity
from crossseed.errors import UserError
from crossseed.joint.config import CROSSCODER, INDEPENDENT, JOINT, UNIVERSAL, JointTraining
from crossseed.joint.maps import back
from crossseed.sae.architectures.batchtopk import RATE, largest_left_out
from crossseed.seeding import generator

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")
LEAST_SCALE = 1e-6


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
        unit: Tensor = _UnitRows.apply(self.weights["W_dec"])  # type: ignore[no-untyped-call]
        return unit

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
        values, dead = _Encode.apply(u_nd, W, b, pre, latents, dead_j, fires)  # type: ignore[no-untyped-call]
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
        y: Tensor = _Decode.apply(codes.values_nk, codes.latents_nk, decoder_fd)  # type: ignore[no-untyped-call]
        return y + self.weights["b_dec"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights and threshold."""
        found = {name: w.detach().cpu().numpy().copy() for name, w in self.weights.items()}
        return {**found, "threshold": self.threshold.cpu().numpy().copy()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes back what `arrays` gave."""
        with torch.no_grad():
            for name, tensor in {**self.weights, "threshold": self.threshold}.items():
                tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))


class Normalised(NamedTuple):
    """One model's activations as they are encoded.

    Attributes:
        u_nd: normalised and carried, (tokens, width). mean_n1, scale_n1: taken out of each token; mean None for 0.
    """

    u_nd: Tensor
    mean_n1: Tensor | None
    scale_n1: Tensor


class Passed(NamedTuple):
    """What the SAE makes of the same tokens in each model; tuples are by model.

    Attributes:
        codes: kept latents; twice the same where there is one code.
        error: x̂ − x in the aligned frame, units of activations, (tokens, width).
        native: reconstructions in the model's own frame, (tokens, width).
        aux: what dead latents make of −error, (tokens, width); None without dead ones.
        decoders: unit rows of each coder.
        codings: of each coder that encoded, by its number.
        dead: number of dead latents behind `aux`.
    """

    codes: tuple[Codes, ...]
    error: tuple[Tensor, ...]
    native: tuple[Tensor, ...]
    aux: tuple[Tensor, ...] | None
    decoders: tuple[Tensor, ...]
    codings: dict[int, Codes]
    dead: tuple[int, ...]


class JointSAE:
    """One or two coders that stand between two models' activations and what lies above.

    Args:
        config: of the training.
        width: of the activations.
        carried: W, model B to the frame of A; frozen.
        models: (0, 1), or of `independent` the one.
        device: where it lies.
        arrays: as `arrays` gave them, in place of initial weights.

    Raises:
        UserError: k exceeds the latents, W has no way back or is of another width, or one model is given to a kind
            of two.
    """

    def __init__(
        self,
        config: JointTraining,
        width: int,
        carried: AffineMap,
        models: tuple[int, ...] = (0, 1),
        device: str = "cpu",
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        n_latents = config.expansion * width
        misfit = config.misfit(n_latents)
        if misfit is not None:
            raise UserError(misfit)
        if (len(models) == 1) != (config.kind == INDEPENDENT):
            raise UserError(
                f"kind {config.kind} takes {'one model' if config.kind == INDEPENDENT else 'two models'}, "
                f"not {len(models)}"
            )
        if carried.matrix_dd.shape != (width, width):
            raise UserError(
                f"W of shape {carried.matrix_dd.shape} does not carry activations of width {width}; "
                "fit it at the same site"
            )
        self.config, self.width, self.models, self.device = config, width, models, device
        self.carried = carried
        self.frames = [_Frame(identity(width), device), _Frame(carried, device)]
        self.coders: list[Coder] = []
        wide = 2 * width if config.kind == CROSSCODER else width
        for number in self._coder_numbers():
            own = number if config.init == "distinct" else "shared"
            weights = (
                initial_arrays(wide, n_latents, config.init_seed, own)
                if arrays is None
                else {name: arrays[f"{name}/{number}"] for name in (*WEIGHTS, "threshold")}
            )
            self.coders.append(Coder(config, weights, device))

    def _coder_numbers(self) -> tuple[int, ...]:
        """Of one coder for both models 0; else the model's own number."""
        return (0,) if self.config.kind in (JOINT, CROSSCODER) else self.models

    @property
    def n_latents(self) -> int:
        return self.config.expansion * self.width

    def coder_of(self, model: int) -> int:
        """Place of a model's coder in `coders`."""
        return self.models.index(model) if len(self.coders) == len(self.models) else 0

    def parameters(self) -> list[Tensor]:
        return [weight for coder in self.coders for weight in coder.weights.values()]

    def own_frame(self, h_nd: Tensor) -> Normalised:
        """Normalised activations before they are carried."""
        norm = self.config.norm
        mean = h_nd.mean(dim=1, keepdim=True) if norm == "layernorm" else None
        z = h_nd if mean is None else h_nd - mean
        if norm == "none":
            scale = torch.ones_like(z[:, :1])
        else:
            scale = z.square().mean(dim=1, keepdim=True).sqrt_().clamp_min_(LEAST_SCALE)
            z = z / scale
        return Normalised(z, mean, scale)

    def normalised(self, h_nd: Tensor, model: int) -> Normalised:
        """A model's activations, as they are encoded."""
        z, mean, scale = self.own_frame(h_nd)
        frame = self.frames[model]
        u = z if frame.there is None else _exact(z, frame.there)
        # The shift of a centred W is in units of activations.
        return Normalised(u if frame.shift is None else u + frame.shift / scale, mean, scale)

    def __call__(
        self,
        h: Sequence[Tensor],
        dead: Sequence[Tensor | None] | None = None,
        training: bool = False,
        encoder: int = 0,
    ) -> Passed:
        """Codes and reconstructions of the same tokens in each model.

        Args:
            h: activations of each of `models`, (tokens, width), float32.
            dead: numbers of dead latents of each coder, for AuxK; None for none.
            training: BatchTopK looks at the batch; `universal` has one model's code for both.
            encoder: place of the model whose code that is.
        """
        given = [self.normalised(x, m) for x, m in zip(h, self.models, strict=True)]
        u = [one.u_nd for one in given]
        dead = [None] * len(self.coders) if dead is None else dead
        decoders = tuple(coder.decoder() for coder in self.coders)
        if self.config.kind in (JOINT, CROSSCODER):
            side_by_side = self.config.kind == CROSSCODER
            coder = self.coders[0]
            coding = coder.encode(torch.cat(u, dim=int(side_by_side)), dead[0], training)
            y_all = coder.decode(coding.codes, decoders[0])
            y = y_all.tensor_split(len(u), dim=int(side_by_side))
            r = self._auxiliary(coding, decoders[0], dead[0])
            aux = None if r is None else r.tensor_split(len(u), dim=int(side_by_side))
            n = len(u[0])
            codes = (
                (coding.codes, coding.codes)
                if side_by_side
                else tuple(coding.codes.part(i * n, (i + 1) * n) for i in range(len(u)))
            )
            used = {0: coding.codes}
            counts = tuple(_count(dead[0]) for _ in u)
        else:
            one_code = training and self.config.kind == UNIVERSAL
            by = [encoder] * len(u) if one_code else list(range(len(u)))
            codings = {i: self.coders[i].encode(u[i], dead[i], training) for i in sorted(set(by))}
            codes = tuple(codings[i].codes for i in by)
            y = tuple(
                coder.decode(own, decoder)
                for coder, own, decoder in zip(self.coders, codes, decoders, strict=True)
            )
            found = [
                self._auxiliary(codings[i], decoder, dead[i])
                for i, decoder in zip(by, decoders, strict=True)
            ]
            # A coder without dead latents has nothing to say of what is left over.
            aux = (
                None
                if all(r is None for r in found)
                else tuple(
                    torch.zeros_like(x) if r is None else r for r, x in zip(found, u, strict=True)
                )
            )
            used = {i: coding.codes for i, coding in codings.items()}
            counts = tuple(_count(dead[i]) for i in by)
        return Passed(
            codes,
            tuple((own - x) * one.scale_n1 for own, x, one in zip(y, u, given, strict=True)),
            tuple(
                self._native(own, one, m) for own, one, m in zip(y, given, self.models, strict=True)
            ),
            None
            if aux is None
            else tuple(r * one.scale_n1 for r, one in zip(aux, given, strict=True)),
            decoders,
            used,
            counts,
        )

    @staticmethod
    def _auxiliary(coding: Coding, decoder_fd: Tensor, dead_j: Tensor | None) -> Tensor | None:
        if coding.dead_nj is None or dead_j is None:
            return None
        return (coding.dead_nj @ decoder_fd.index_select(0, dead_j)).float()

    def _native(self, y_nd: Tensor, one: Normalised, model: int) -> Tensor:
        frame = self.frames[model]
        y = y_nd if frame.shift is None else y_nd - frame.shift / one.scale_n1
        z = y if frame.back is None else _exact(y, frame.back)
        h = z * one.scale_n1
        return h if one.mean_n1 is None else h + one.mean_n1

    def codes_of(self, h_nd: Tensor, model: int) -> Codes:
        """Latents that one model's activations fire by themselves.

        A crosscoder's code is of both models: one of them alone is given the weight of two, the other's part is 0. (With
        both, the correlation over models would be 1 by construction.)
        """
        u = self.normalised(h_nd, model).u_nd
        if self.config.kind == CROSSCODER:
            parts = [torch.zeros_like(u), torch.zeros_like(u)]
            parts[self.models.index(model)] = 2 * u
            u = torch.cat(parts, dim=1)
        with torch.no_grad():
            return self.coders[self.coder_of(model)].encode(u).codes

    def decoder_of(self, model: int) -> np.ndarray:
        """Unit decoder rows of a model in the aligned frame, (latents, width); of a crosscoder its part, of length 1."""
        with torch.no_grad():
            rows = self.coders[self.coder_of(model)].decoder().cpu().numpy()
        if self.config.kind == CROSSCODER:
            part = np.split(rows, 2, axis=1)[self.models.index(model)]
            found: np.ndarray = part / np.linalg.norm(part, axis=1, keepdims=True)
            return found
        return rows

    def arrays(self) -> dict[str, np.ndarray]:
        """All weights, by name and number of the coder, and W, under ``map/…``."""
        found = {
            f"{name}/{number}": array
            for number, coder in zip(self._coder_numbers(), self.coders, strict=True)
            for name, array in coder.arrays().items()
        }
        return {**found, **{f"map/{k}": v for k, v in self.carried._asdict().items()}}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes back the weights that `arrays` gave."""
        for number, coder in zip(self._coder_numbers(), self.coders, strict=True):
            coder.restore({name: arrays[f"{name}/{number}"] for name in (*WEIGHTS, "threshold")})


def of_arrays(
    config: JointTraining,
    arrays: Mapping[str, np.ndarray],
    models: tuple[int, ...] = (0, 1),
    device: str = "cpu",
) -> JointSAE:
    """A trained SAE of its arrays."""
    carried = AffineMap(*(arrays[f"map/{name}"] for name in AffineMap._fields))
    return JointSAE(config, len(carried.matrix_dd), carried, models, device, arrays)


def recarried(sae: JointSAE, carried: AffineMap, model: int | None = None) -> JointSAE:
    """The same weights behind another W: a dictionary of one model applied to what is carried over to it.

    Args:
        model: whose activations it reads now, of an SAE of one model; None for those it has read.
    """
    arrays, models = sae.arrays(), sae.models
    if model is not None:
        (own,) = models
        arrays = {f"{name}/{model}": arrays[f"{name}/{own}"] for name in (*WEIGHTS, "threshold")}
        models = (model,)
    return JointSAE(sae.config, sae.width, carried, models, sae.device, arrays)


class _Frame:
    """A map as float32 tensors; None where it does nothing.

    Attributes: there, back: (width, width), acting from the right. shift: added after `there`, (width,).
    """

    def __init__(self, carried: AffineMap, device: str) -> None:
        matrix = carried.matrix_dd
        shift = carried.shift_out_d - carried.shift_in_d @ matrix
        still = np.array_equal(matrix, np.eye(len(matrix)))

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array.astype(np.float32)).to(device)

        self.there = None if still else tensor(matrix)
        self.back = None if still else tensor(back(carried).matrix_dd)
        self.shift = tensor(shift) if shift.any() else None


def _exact(x_nd: Tensor, matrix_dd: Tensor) -> Tensor:
    """A product in float32, whatever the precision of others: W carries one model only, and its rounding would be one
    model's alone."""
    with torch.autocast(x_nd.device.type, enabled=False):
        return x_nd @ matrix_dd


def _count(dead_j: Tensor | None) -> int:
    return 0 if dead_j is None else len(dead_j)
