"""A small cohort of text classifiers that tests train."""

from pathlib import Path

import changes
import pytest
import yaml

from crossseed import specs
from crossseed.cohorts.base import FINAL
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.cohorts.classifier import (
    tokens,
    training,
)
from crossseed.cohorts.neox.config import NAMES, TOKENIZER_NAMES
from crossseed.config.load import load_run

ROOT = Path(__file__).parent.parent
GRAMMARS = ROOT / "resources/grammars"
SHIPPED = sorted(GRAMMARS.glob("*.yaml"))
# SAEs of two of its members have tests of their own.
SMOKE = yaml.safe_load((Path(__file__).parent / "smoke_classifier.yaml").read_text()) | {
    "joint": None
}
COHORT = "smoke-bert"
SITE = "blocks.0.hook_normalized_resid_post"


def changed(**keys):
    """The smoke run, keys of its cohort such as ``training__epochs`` replaced; the block ``model`` too."""
    cohorts = {**SMOKE["cohorts"], COHORT: changes.with_keys(SMOKE["cohorts"][COHORT], keys)}
    return load_run({**SMOKE, "cohorts": cohorts})


TINY = {
    "question": "Which comes first?",
    "topics": {"thing": {"shown": ["tea", "milk"], "held_out": ["rum"]}},
    "fillers": {"one": ["a"], "two": ["b"]},
    "phrases": {"both": ["{one} {two}"]},
    "classes": {"x": {"only": ["{both} {thing}"]}, "y": {"only": ["{two} {one} {thing}"]}},
}


def tiny(**keys):
    return changes.with_keys(TINY, keys)


# --- tokenizer and token sets -----------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the tokenizer of the cohort."""
    folder = tmp_path_factory.mktemp("classifier")
    tk.make(specs.tokenizer(changed(), COHORT), tokenizer_files(folder), SHIPPED)
    return folder


def tokenizer_files(folder):
    return [folder / "tokenizer" / name for name in TOKENIZER_NAMES]


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def made(home, **keys):
    return tokens.make_tokens(specs.tokens(changed(**keys), COHORT), tokenizer_files(home), SHIPPED)


# --- training ---------------------------------------------------------------------------


def train(home, out, seed=42, start_from=None, code="code", **keys):
    """Trains one member into `out`; returns its files' bytes."""
    run = changed(**keys)
    config = run.cohorts[COHORT]
    own = [] if config.tokenizer_files == [] else tokenizer_files(home)
    kept = sorted({Path(path).parent.name for path in config.trained_files})
    training.train(
        specs.train(run, COHORT, seed),
        device="cpu",
        code=code,
        anchor=[start_from / c / name for c in kept for name in NAMES] if start_from else [],
        inputs=own,
        out=[out / c / name for c in kept for name in NAMES],
        curve=out / "training.csv",
        quality=out / "quality.csv",
        data=SHIPPED,
    )
    return content(out)


@pytest.fixture(scope="module")
def seed42(home):
    return train(home, home / "seed42")


@pytest.fixture(scope="module")
def seed137(home, seed42):
    return train(home, home / "seed137", seed=137, start_from=home / "seed42")


# --- folders, members, and the part above a site ----------------------------------------


def plain(folder):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def reading(seed=42, checkpoint=FINAL):
    return specs.extract(changed(), COHORT, seed, checkpoint)


def paths(folder):
    return [folder / name for name in NAMES]
