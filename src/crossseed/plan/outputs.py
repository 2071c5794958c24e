"""Which tables and figures a run's report has."""

from __future__ import annotations

from crossseed.config.schema import RunConfig
from crossseed.plan.joint_saes import joint_nulls
from crossseed.plan.models import trained, triples
from crossseed.plan.saes import dictionaries, interpreted, seeded
from crossseed.stability.sweeps import sweeps

# What claims are measured from.
CLAIMED_TABLES = (
    "fits",
    "transfer",
    "evidence",
    "decoder_cosine",
    "haar",
    "ks",
    "published",
    "steering",
    "attribution",
    "weights",
    "joint",
    "bars",
    "drift",
    "stability",
    "joint_conditions",
    "joint_nulls",
    "joint_tests",
    "joint_sizes",
    "joint_halves",
    "joint_counterfactuals",
    "joint_regression",
)
# What is taken over seeds.
TABLES_OF_PAIRS = ("fits", "transfer", "splice")


def tables(run: RunConfig) -> list[str]:
    """Names of the tables of a run's report."""
    found = ["quality", "training"] if trained(run) else []
    found += ["dictionaries"] if run.dictionaries else []
    if run.transfer:
        found += ["fits", "directions", "transfer", "evidence", "decoder_cosine"]
    found += ["splice"] if run.splice else []
    if run.stability:
        found += ["stability"] + (["calibration"] if run.stability.matched else [])
        found += ["bridge"] if run.stability.bridge else []
        found += ["absorption"] if run.stability.absorption else []
        found += ["interpret", "interpret_steps"] if run.stability.interpret else []
    found += ["over_seeds"] if run.transfer else []
    if run.haar:
        found += ["haar", "ks", "phases", "power"]
        found += ["cocycle"] if triples(run) else []
    found += ["ports"] if run.port else []
    found += ["steering"] if run.steering else []
    found += ["features"] if run.features else []
    found += ["attribution", "attribution_cells"] if run.attribution else []
    found += ["weights", "joint"] if run.weights else []
    found += ["causes", "bars"] if run.bars else []
    found += ["lenses"] if run.lenses else []
    if run.joint:
        found += ["joint_conditions", "joint_latents", "joint_training", "joint_fits"]
        found += ["joint_nulls"] if joint_nulls(run) else []
        found += ["joint_tests"] if run.joint.nulls else []
        found += ["joint_sizes", "joint_halves"] if run.joint.sizes else []
        if run.joint.counterfactuals:
            found += ["joint_counterfactuals", "joint_contexts"]
        found += ["joint_pooled"] + (["joint_regression"] if joint_nulls(run) else [])
    found += ["drift"] if run.drift else []
    found += ["published"] if run.claims and run.transfer else []
    return found + (["claims"] if run.claims else [])


def figures(run: RunConfig) -> list[str]:
    """Names of the figures of a run's report."""
    found = []
    if run.transfer:
        found += [f"{kind}-{d.name}" for d in dictionaries(run) for kind in ("ev", "firing")]
        found += ["published-ev"] if run.claims else []
        found += ["ladder", "twins", "decoder-cosine"]
    if run.haar:
        found += ["published-rotation"] if run.claims else []
        found += ["eigenphases", "power"]
    if run.steering:
        found += ["steering-doses", "steering-regimes"]
    found += ["features"] if run.features else []
    found += ["attribution", "attribution-cost"] if run.attribution else []
    if run.stability:
        recipes = {name: variant.model_dump() for name, variant in run.dictionaries.items()}
        swept = sweeps(recipes, seeded(run))
        found += [
            "stability",
            *(["stability-sweeps"] if swept else []),
            "stability-decay",
            "stability-latents",
        ]
    found += ["bridge"] if run.stability and run.stability.bridge else []
    found += ["interpret"] if interpreted(run) else []
    found += ["weights", "weights-joint"] if run.weights else []
    found += ["bars", "edges"] if run.bars else []
    if run.joint:
        found += ["joint", "joint-geometry"]
        found += ["joint-nulls"] if joint_nulls(run) else []
        found += ["joint-sizes"] if run.joint.sizes else []
        found += ["joint-counterfactuals"] if run.joint.counterfactuals else []
    if run.drift:
        found += ["drift-checkpoint", "drift-seed"]
        found += [
            f"drift-ev-{d.name}" for d in dictionaries(run) if d.variant in run.drift.dictionaries
        ]
    return found + (["training"] if trained(run) else [])
