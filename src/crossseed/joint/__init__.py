"""One SAE for two models: a joint end-to-end TopK SAE conditioned on a Procrustes rotation (Váradi & Kmetty,
"Cross-seed explainability using Procrustes conditioned Joint End-to-end Top-K Sparse Autoencoders").

Equation and table numbers in this package are that study's. Rows are tokens, and maps act from the right: model B's
activations in the frame of A are ``h_B @ W``, and go back by ``@ W.T``.

    config        settings of a training and of an evaluation
    maps          W: fitted, and the nulls of it
    upper         what lies above the site, and cached batches of what lies below
    coder         an encoder and a decoder of which few latents are kept
    model         the joint SAE and those it is compared with
    losses        the terms of the objective
    training      the loop
    sides         how two models are encoded, and which latents they pair
    universality  how well latents of two models agree, with the null
    behaviour     what models say with an SAE in their passes
    geometry      where decoder directions point
    samplesize    how many tokens decide W
"""

MAPS_SCHEMA, SAE_SCHEMA = "joint-maps/1", "joint-sae/1"
