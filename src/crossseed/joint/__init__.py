"""One SAE for two models: a joint end-to-end TopK SAE conditioned on a Procrustes rotation (Váradi & Kmetty,
"Cross-seed explainability using Procrustes conditioned Joint End-to-end Top-K Sparse Autoencoders").

Equation and table numbers in this package are that study's. Rows are tokens, and maps act from the right: model B's
activations in the frame of A are ``h_B @ W``, and go back by ``@ W.T``.

    config      settings of a training and of an evaluation
    maps        W: fitted, and the nulls of it
    upper       what lies above the site, and cached batches of what lies below
    model       the joint SAE and those it is compared with
    losses      the terms of the objective
    training    the loop
    evaluation  universality, with its nulls; reconstruction, behaviour, geometry
    samplesize  how many tokens decide W
"""

MAPS_SCHEMA, SAE_SCHEMA = "joint-maps/1", "joint-sae/1"
