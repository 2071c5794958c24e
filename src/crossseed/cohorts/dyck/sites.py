"""Residual sites of the Dyck-3 transformer, under TransformerLens names.

`blocks.1.hook_resid_pre` is the same tensor as `blocks.0.hook_resid_post`; such aliases are
not sites of their own, so that no cell is trained or counted twice.
"""

D_MODEL = 64
N_LAYERS = 2
N_PARAMETERS = 104_448


def mid(layer: int) -> str:
    """The residual stream of a layer after attention."""
    return f"blocks.{layer}.hook_resid_mid"


def post(layer: int) -> str:
    """The residual stream after a layer."""
    return f"blocks.{layer}.hook_resid_post"


FIRST = "blocks.0.hook_resid_pre"
LAST = post(N_LAYERS - 1)
SITES = (FIRST, *(site(layer) for layer in range(N_LAYERS) for site in (mid, post)))
ALIASES = {f"blocks.{layer}.hook_resid_pre": post(layer - 1) for layer in range(1, N_LAYERS)}
