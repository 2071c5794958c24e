"""A small cohort of texts, and what tests of text share."""

import numpy as np
import pytest

from crossseed.cohorts.base import SPLITS
from crossseed.cohorts.text import corpus
from crossseed.cohorts.text.config import (
    FolderCorpus,
    HubCorpus,
    StdlibCorpus,
    TextTokens,
)

STDLIB = StdlibCorpus(source="stdlib", min_characters=200)
END, CLS, SEP = "<|endoftext|>", "[CLS]", "[SEP]"
BASE = {
    "seed": 0,
    "context": 8,
    "packing": "documents",
    "most_a_document": None,
    "keep_first_position": True,
    "special_tokens": False,
    "fit": 10,
    "train": 20,
    "eval": 15,
}


def config(**changes):
    return TextTokens.model_validate(BASE | changes)


def folder(path, min_characters=0, text_field="text"):
    return FolderCorpus(
        source="folder", path=str(path), text_field=text_field, min_characters=min_characters
    )


def hub(**changes):
    base = {
        "source": "hub",
        "dataset": "some/pile",
        "name": None,
        "split": "train",
        "revision": None,
        "text_field": "text",
        "min_characters": 0,
    }
    return HubCorpus.model_validate(base | changes)


def prose(seed, n, words=(5, 60)):
    """Documents of random words; no two are equal."""
    rng = np.random.default_rng(seed)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    found = []
    for i in range(n):
        count = rng.integers(*words)
        parts = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(count)]
        found.append(f"{' '.join(parts)} {i}.")
    return found


def make_tokenizer(end=END):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END, CLS, SEP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(prose(99, 300), trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        special_tokens=[(name, core.token_to_id(name)) for name in (CLS, SEP)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=end)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def ids_of(tokenizer, text):
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def split_of(text, spec, reserved=0.0):
    """The split a document belongs to, written out anew."""
    place = corpus.part_of(text, spec.seed)
    if place < reserved:
        return None
    total = spec.fit + spec.train + spec.eval
    bounds = np.cumsum([spec.fit, spec.train]) / total
    return SPLITS[np.searchsorted(bounds, (place - reserved) / (1 - reserved), side="right")]


def rows_of(sets):
    return {
        split: [tuple(map(int, row)) for row in found.tokens_nt] for split, found in sets.items()
    }
