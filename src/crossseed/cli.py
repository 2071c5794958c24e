"""The command line: ``crossseed VERB …``, one verb a job.

Each verb reads files named by options and settings from ``--spec``, calls the library once,
and writes its outputs whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from crossseed import __version__, failures
from crossseed.errors import UserError
from crossseed.starting import imported

VERBS = {
    "check": "check that a cohort's models exist and fit together",
    "tokenizer": "train a cohort's tokenizer",
    "tokens": "make a cohort's token sets",
    "train": "train one member of a cohort",
    "extract": "read a member's activations at all sites",
    "sae": "train and measure SAEs of one member and site",
    "align": "take the moments of a pair of members, from which all maps are fitted",
    "fits": "measure how well each map carries a member's activations",
    "shared": "measure one rotation for all sites of a pair",
    "transfer": "try a member's dictionaries on another member",
    "splice": "run a member with another's carried activations in place of its own",
    "calibrate": "find the penalty with which an SAE has a wanted number of active latents",
    "match": "match two SAEs of one member and site that were trained from different seeds",
    "compare": "say what two dictionaries share, by their directions alone",
    "bridge": "match the SAEs of two members after each map, beside two SAEs of one member",
    "stability": "compare SAEs of one member and site that were trained from different seeds",
    "absorption": "look for first letters in SAEs of several seeds, and for latents that take them over",
    "interpret": "say at what latents fire, and score that by in how many SAEs they are found",
    "cosine": "compare the decoders of two members' dictionaries",
    "null": "draw what the Haar tests do under Haar measure",
    "power": "measure what the Haar tests reject",
    "haar": "test whether the rotation of a pair is a Haar draw",
    "across": "test the rotations of all pairs of a site together",
    "ks": "pool the eigenphases of a cohort over pairs and sites, and test them",
    "cocycle": "test whether the rotations of three seeds compose",
    "published": "measure a pair by the published protocol",
    "over_seeds": "take medians over pairs, with intervals over seeds",
    "claims": "put published figures beside what a run measured; or list what measures each",
    "port": "carry a dictionary, a steering vector or a probe to another member",
    "steer": "steer a member by its own, carried and random vectors",
    "features": "patch single latents in two members, and put them in each other's place",
    "attribute": "ablate a member's components, and try to predict what that does",
    "weights": "align the weights of two members by the symmetries of the model",
    "causes": "cut a member's components and edges, and try to predict what that does",
    "bars": "hold a member against another, or against decoys, by four bars",
    "lenses": "look at a member's components through five lenses",
    "joint_cache": "keep all that is clean of a member, below a site and above",
    "joint_maps": "fit the maps that carry one model of a pair into the frame of the other",
    "joint_fits": "measure how well these maps carry its activations",
    "joint_size": "measure how many sequences decide the map of a pair",
    "joint_train": "train one SAE of a pair, through both models above the site",
    "joint_evaluate": "measure one condition of a pair",
    "joint_null": "train SAEs of a pair with other maps, and measure them",
    "joint_tests": "hold the map of a pair against other maps",
    "joint_counterfactuals": "edit sentences, and see what latents of both models do",
    "joint_tables": "pool what is measured of joint SAEs over pairs",
    "drift": "compare a member with its reference checkpoint and the anchor",
    "collect": "join the tables of all cells",
    "report": "draw the figures and write the page of a run",
    "plan": "say what a configuration will run, and what it takes",
    "reference": "print a reference page: config keys, the command line, artefacts",
    "verify": "check that results are as they were written, and say what to make again",
}
JOB_VERBS = tuple(verb for verb in VERBS if verb not in {"plan", "reference", "verify"})

# Fixed, never taken from --cores: results must not depend on how many cores a run was given.
NUMERIC_THREADS = "1"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit status (2 for an error the user can mend)."""
    argv = sys.argv[1:] if argv is None else argv
    for name in THREAD_VARIABLES:
        os.environ[name] = NUMERIC_THREADS
    parser = argparse.ArgumentParser(prog="crossseed", description=__doc__)
    parser.add_argument("--version", action="version", version=f"crossseed {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, summary in VERBS.items():
        # Only the verb that runs is imported, so that light verbs stay light.
        if argv and argv[0] == name:
            module = imported(f"crossseed.verbs.{name}")
            module.add_arguments(verbs.add_parser(name, help=summary, description=module.__doc__))
        else:
            verbs.add_parser(name, help=summary)
    args = parser.parse_args(argv)
    # A list of claims is no job.
    job = args.verb in JOB_VERBS and getattr(args, "spec", "") is not None
    if job:
        print("$ " + shlex.join(["crossseed", *argv]), flush=True)
    before = len(_written())
    try:
        module.run(args)
    except UserError as error:
        print(f"crossseed {args.verb}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        said = failures.sentence(error, args.verb)
        if said is None:
            raise
        print(f"crossseed {args.verb}: {said}", file=sys.stderr)
        return 2
    if job:
        _say_what_was_written(_written()[before:])
        _say_what_was_used()
    return 0


def _written() -> list[Path]:
    """What this process has written so far; nothing where no module that writes was imported."""
    atomic = sys.modules.get("crossseed.atomic")
    return atomic.WRITTEN if atomic else []


def _say_what_was_written(paths: list[Path]) -> None:
    """The digest of each file, for the log: tables hold none of their own (see `crossseed verify`)."""
    for path in dict.fromkeys(paths):
        if not path.name.startswith(".") and path.is_file():
            print(f"wrote {sys.modules['crossseed.store'].digest_of(path)} {path}")


def _say_what_was_used() -> None:
    """Device, device-seconds and peak memory of a job on a GPU, for the log (see `crossseed.usage`)."""
    devices = sys.modules.get("crossseed.devices")
    used = devices.usage() if devices else None
    if used is not None:
        print(f"used {json.dumps(used._asdict())}")
