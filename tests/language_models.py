"""Text and tiny models in transformers' format, for tests of language-model cohorts."""

from __future__ import annotations

import random
from pathlib import Path

SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ka",
    "le",
    "mi",
    "no",
    "pu",
    "ra",
    "se",
    "ti",
    "vo",
    "zu",
]
END = "<|endoftext|>"


def write_corpus(folder: Path, documents: int = 120, words: int = 150) -> list[str]:
    """Documents of made-up words, a file each; returns their texts."""
    rng = random.Random(0)
    vocabulary = [a + b for a in SYLLABLES for b in "nrstlm"]
    folder.mkdir(parents=True)
    texts = []
    for number in range(documents):
        text = f"Document {number}. " + " ".join(rng.choice(vocabulary) for _ in range(words))
        (folder / f"doc{number:03d}.txt").write_text(text, encoding="utf-8")
        texts.append(text)
    return texts


def train_tokenizer(texts: list[str], vocabulary: int = 320):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


def write_models(
    folder: Path, names: list[str], tokenizer, width: int = 16, layers: int = 3, heads: int = 2
) -> None:
    """Untrained GPT-NeoX models as `folder`/org/name@revision, each with weights of its own."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    for number, name in enumerate(names):
        torch.manual_seed(number)
        config = GPTNeoXConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=2 * width,
            max_position_embeddings=256,
        )
        GPTNeoXForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def write_inputs(folder: Path) -> None:
    """What tests/smoke_lm.yaml reads: ``corpus/`` and ``hub/``."""
    tokenizer = train_tokenizer(write_corpus(folder / "corpus"))
    names = [
        f"org/tiny-seed{seed}{revision}"
        for seed in (1, 2)
        for revision in ("", "@step0", "@step10")
    ]
    write_models(folder / "hub", names, tokenizer)
