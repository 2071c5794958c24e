"""The joint SAE, and those it is compared with: one encoder and decoder, used in five ways.

    joint        tokens of A and of B are rows of one SAE; two codes
    independent  one model's tokens, its own SAE
    mutual       two SAEs, each of one model's tokens (their decoders meet in the loss)
    crosscoder   a token's activations of A and of B side by side are one row, of twice the width; one code
    universal    two SAEs, of which one encodes and both decode; one code in training, two in use

Activations h are normalised in their own frame, z = (h − μ) / σ, and carried, u = z W; the SAE gives y for u. Then
ĥ = σ y W⁻¹ + μ is native, and σ (y − u) the error in the aligned frame, in units of activations (equation 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed.alignment.maps import AffineMap, identity
from crossseed.errors import UserError
from crossseed.joint.coder import WEIGHTS, Coder, Codes, Coding, initial_arrays
from crossseed.joint.config import CROSSCODER, INDEPENDENT, JOINT, UNIVERSAL, JointTraining
from crossseed.joint.maps import back

LEAST_SCALE = 1e-6


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
        """Weights of every coder, in order, in the shapes of `crossseed.joint.coder.initial_arrays`."""
        return [weight for coder in self.coders for weight in coder.weights.values()]

    def own_frame(self, h_nd: Tensor) -> Normalised:
        """Normalised activations, (tokens, width), before they are carried."""
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
        """A model's activations, (tokens, width), as they are encoded."""
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
