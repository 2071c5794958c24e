"""Folding a map into what reads from activations or writes to them.

A map takes the target's activations into the source's frame, x_a = (x_b − s) M + t. Whatever works on
the source's activations works on the target's with the map folded in, and needs it no more:

    dictionary   W_enc ← M W_enc, b_dec ← (b_dec − t) M⁻¹ + s, W_dec ← W_dec M⁻¹; b_enc stays where
                 b_dec is taken off the input, else b_enc ← b_enc + (t − s M) W_enc
    direction    v ← v M⁻¹: what is added to activations, such as a steering vector
    probe        w ← M w, c ← c + (t − s M) w: what reads activations linearly

The folded dictionary is map, dictionary and inverse map in one: its latents are those of the source's
dictionary on the carried activations, its reconstruction what carrying theirs back gives.
"""

from __future__ import annotations

import numpy as np

from crossseed.alignment.maps import AffineMap


def dictionary(
    arrays: dict[str, np.ndarray], affine: AffineMap, apply_b_dec_to_input: bool
) -> dict[str, np.ndarray]:
    """A dictionary of the source, for the target.

    Args:
        arrays: SAELens's names and shapes: W_enc (d, latents), W_dec (latents, d), b_dec (d,), and
            b_enc (latents,) where the architecture has one; others, such as thresholds and gates, act on
            pre-activations, which do not change, and stay.
        affine: from target to source, (d, d).
        apply_b_dec_to_input: as in SAELens's cfg.json.

    Returns:
        The same names in the precision they came in; computed in float64.

    Raises:
        ValueError: the map has no usable inverse, or is of another width.
    """
    _check_width(arrays["b_dec"], affine)
    back = affine.inverse()
    wide = {name: values.astype(np.float64) for name, values in arrays.items()}
    folded = {
        **wide,
        "W_enc": affine.matrix_dd @ wide["W_enc"],
        "W_dec": wide["W_dec"] @ back.matrix_dd,
        "b_dec": back(wide["b_dec"][None])[0],
    }
    if not apply_b_dec_to_input:
        offset = (affine.shift_out_d - affine.shift_in_d @ affine.matrix_dd) @ wide["W_enc"]
        # The magnitudes of a gated encoder see the same product, scaled.
        scales = {"b_enc": 1.0, "b_gate": 1.0, "b_mag": np.exp(wide.get("r_mag", 0.0))}
        folded |= {name: wide[name] + s * offset for name, s in scales.items() if name in wide}
    return {name: values.astype(arrays[name].dtype) for name, values in folded.items()}


def direction(v_d: np.ndarray, affine: AffineMap) -> np.ndarray:
    """What added to the target's activations adds v to the carried ones, (d,).

    Raises:
        ValueError: the map has no usable inverse, or is of another width.
    """
    _check_width(v_d, affine)
    moved: np.ndarray = v_d @ affine.inverse().matrix_dd
    return moved


def probe(w_d: np.ndarray, c: float, affine: AffineMap) -> tuple[np.ndarray, float]:
    """Weights, (width,), and bias that read from the target's activations what w and c read from the carried.

    Raises:
        ValueError: the map is of another width.
    """
    _check_width(w_d, affine)
    offset = affine.shift_out_d - affine.shift_in_d @ affine.matrix_dd
    return affine.matrix_dd @ w_d, float(c + offset @ w_d)


def _check_width(v_d: np.ndarray, affine: AffineMap) -> None:
    width = len(affine.shift_out_d)
    if v_d.shape != (width,):
        raise ValueError(f"a vector of shape {v_d.shape} does not fit a map of width {width}")
