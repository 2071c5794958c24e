"""A small cohort of language models that tests train."""

from pathlib import Path

import changes
import numpy as np
import pytest
import yaml
from language_models import write_corpus

from crossseed import specs
from crossseed.cohorts.base import FINAL
from crossseed.cohorts.neox import tokenizer as tk
from crossseed.cohorts.neox import training
from crossseed.cohorts.neox.config import NAMES, TOKENIZER_NAMES, NeoxTraining
from crossseed.config.load import load_run
from crossseed.store import read_table

SMOKE = yaml.safe_load((Path(__file__).parent / "smoke_lm.yaml").read_text())
COHORT = "smoke-neox"
STEPS = 60  # past the first row of the training curve
CODE = "code"


def changed(**keys):
    """The cohort of the smoke run alone, keys such as ``training__steps`` replaced."""
    cohort = changes.with_keys(SMOKE["cohorts"][COHORT], {"training__steps": STEPS, **keys})
    return load_run({**SMOKE, "cohorts": {COHORT: cohort}})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a corpus and the tokenizer of its cohort."""
    folder = tmp_path_factory.mktemp("neox")
    write_corpus(folder / "corpus")
    tk.make(specs.tokenizer(run_in(folder), COHORT), tokenizer_files(folder))
    return folder


def run_in(home, **keys):
    return changed(corpus__path=str(home / "corpus"), **keys)


def tokenizer_files(home):
    return [home / "tokenizer" / name for name in TOKENIZER_NAMES]


def checkpoints(recipe):
    return [*(f"step{step}" for step in sorted(recipe["keep_steps"])), FINAL]


def trained(home, out, seed=0, code=CODE, **keys):
    """Trains one member into `out`; returns its files' bytes by path below `out`."""
    spec = specs.train(run_in(home, **keys), COHORT, seed)
    files = [out / c / name for c in checkpoints(spec["training"]) for name in NAMES]
    training.train(
        spec,
        device="cpu",
        code=code,
        anchor=[],
        inputs=tokenizer_files(home),
        out=files,
        curve=out / "training.csv",
        quality=out / "quality.csv",
    )
    return content(out)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def seed0(home):
    return trained(home, home / "seed0")


@pytest.fixture(scope="module")
def seed1(home):
    return trained(home, home / "seed1", seed=1)


def quality(home, seed=0):
    rows = read_table(home / f"seed{seed}" / "quality.csv", training.QUALITY_COLUMNS)
    return {(int(row["step"]), row["measure"]): float(row["value"]) for row in rows}


def recipe_of(**keys):
    told = SMOKE["cohorts"][COHORT]["training"] | {"steps": STEPS}
    return NeoxTraining.model_validate({**told, **keys})


class Chain:
    """Text from a known Markov chain over a few tokens."""

    def __init__(self, transitions):
        self.p = np.asarray(transitions)
        values, vectors = np.linalg.eig(self.p.T)
        stationary = np.real(vectors[:, np.argmin(abs(values - 1))])
        self.stationary = stationary / stationary.sum()
        self.entropy_rate = -float(
            (self.stationary[:, None] * self.p * np.log(np.maximum(self.p, 1e-300))).sum()
        )
        self.entropy = -float((self.stationary * np.log(self.stationary)).sum())

    def sample(self, seed, n):
        rng = np.random.default_rng(seed)
        ahead = self.p.cumsum(axis=1)
        draws = rng.random(n)
        ids = np.zeros(n, np.int32)
        ids[0] = rng.choice(len(self.p), p=self.stationary)
        for i in range(1, n):
            ids[i] = min(np.searchsorted(ahead[ids[i - 1]], draws[i]), len(self.p) - 1)
        return ids


@pytest.fixture(scope="module")
def chain():
    return Chain(np.random.default_rng(3).dirichlet(np.full(12, 0.3), size=12))


def identity_of(home, **keys):
    """What a training of seed 0 has to be of, to be resumed."""
    spec = specs.train(run_in(home, **keys), COHORT, 0)
    tokenizer = tk.load(tokenizer_files(home))
    text = training.arrays_digest(
        {
            "ids": training.encode(tk.own_documents(spec), tokenizer),
            "held_out": training._held_out_rows(
                spec, NeoxTraining.model_validate(spec["training"]), tokenizer
            ),
        }
    )
    return {"spec": spec, "code": CODE, "inputs": {"text": text}, "device": "cpu"}
