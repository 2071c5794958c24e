"""What each verb is told: its spec, and the digest of the code behind it.

A spec holds exactly the config leaves its verb reads, as plain JSON values. Specs are the
only way from the configuration to a job, and, with the code digest, the only reason beside
changed inputs for a job to run again. Rules ask this package for the function named as the verb.

Readers of activation files are told in ``activations`` what the file must have been made
from: a digest of all that decides its content. They refuse any other file, so that no result
rests on activations of another model or of other tokens.

    digests        the code behind a verb
    models         cohorts and their members
    saes           SAEs and their seeds
    maps           maps between members, and tests of rotations
    interventions  porting, steering, features, attribution
    constructive   weights, bars, lenses
    joint_saes     SAEs that two models share
    outputs        claims, tables, the page
"""

from __future__ import annotations

from crossseed.specs.constructive import bars, causes, lenses, weights
from crossseed.specs.digests import code, split_dictionary
from crossseed.specs.interventions import attribute, features, port, steer
from crossseed.specs.joint_saes import (
    joint_cache,
    joint_counterfactuals,
    joint_evaluate,
    joint_fits,
    joint_maps,
    joint_null,
    joint_size,
    joint_tables,
    joint_tests,
    joint_train,
)
from crossseed.specs.maps import (
    across,
    align,
    cocycle,
    cosine,
    fits,
    haar,
    ks,
    null,
    power,
    published,
    shared,
    splice,
    transfer,
)
from crossseed.specs.models import (
    activations,
    check,
    drift,
    extract,
    origin,
    tokenizer,
    tokens,
    train,
)
from crossseed.specs.outputs import claims, collect, over_seeds, report
from crossseed.specs.saes import absorption, bridge, calibrate, interpret, match, sae, stability

__all__ = [
    "absorption",
    "across",
    "activations",
    "align",
    "attribute",
    "bars",
    "bridge",
    "calibrate",
    "causes",
    "check",
    "claims",
    "cocycle",
    "code",
    "collect",
    "cosine",
    "drift",
    "extract",
    "features",
    "fits",
    "haar",
    "interpret",
    "joint_cache",
    "joint_counterfactuals",
    "joint_evaluate",
    "joint_fits",
    "joint_maps",
    "joint_null",
    "joint_size",
    "joint_tables",
    "joint_tests",
    "joint_train",
    "ks",
    "lenses",
    "match",
    "null",
    "origin",
    "over_seeds",
    "port",
    "power",
    "published",
    "report",
    "sae",
    "shared",
    "splice",
    "split_dictionary",
    "stability",
    "steer",
    "tokenizer",
    "tokens",
    "train",
    "transfer",
    "weights",
]
