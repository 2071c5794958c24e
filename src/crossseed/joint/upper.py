"""What lies above the site, and all that lies below it, computed once.

Model weights are frozen, so that everything below the site, and the clean pass above it, is the same in every epoch:
a training reads it from a cache, and passes again only through what lies above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from crossseed.errors import UserError, at
from crossseed.joint import maps
from crossseed.joint.maps import Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.cohorts.base import Scored, TokenSet

MODELS = ("A", "B")


class Upper(Protocol):
    """One model above the site, frozen and in evaluation mode, differentiable by its input."""

    def __call__(
        self, h_bld: Tensor, mask_bl: Tensor, at_bp: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Args:
            h_bld: activations at the site, (examples, tokens, width). mask_bl: true where a token is no padding.
            at_bp: positions of the predictions that are wanted, (examples, predictions); None of a model that
                predicts one class of a whole example.

        Returns:
            The next layer's states (examples, tokens, width), and logits, (examples, classes) or (examples,
            predictions, classes).
        """
        ...


class CutModel(Upper, Protocol):
    """One member cut at a site: what lies above, and its undisturbed passes (`crossseed.cohorts.base`).

    Attributes:
        where: opens the sentence of an error. width: of an activation.
    """

    where: str
    width: int

    @property
    def alike(self) -> Mapping[str, object]:
        """What two models that share an SAE must have in common, by name."""
        ...

    def clean(self, tokens_nt: np.ndarray, at_np: np.ndarray | None = None) -> tuple[Tensor, ...]:
        """Activations at the site and the next layer's states, (sequences, positions, width) both, and logits."""
        ...

    def scored(self, found: TokenSet, predictions: int, *name: object) -> Scored:
        """Sequences, and what is predicted on them."""
        ...


def check_pair(first: CutModel, second: CutModel) -> None:
    """Whether two models of one kind can share an SAE.

    Raises:
        UserError: they differ in something of `CutModel.alike`.
    """
    for what, mine in first.alike.items():
        theirs = second.alike[what]
        if mine != theirs:
            raise UserError(
                f"{first.where} and {second.where} are no pair: {what} is {mine}, there {theirs}; choose models "
                "of one kind and one tokenizer"
            )


class Batch(NamedTuple):
    """Examples with all that is clean of them.

    Attributes:
        h_mbld: activations at the site of each model, (examples, tokens, width).
        next_mbld: the next layer's states. logits_mbc: (examples, classes), or with predictions between them.
        mask_bl: true where a token is no padding. at_bp: where predictions are, None without.
        coded_n: indices, into flattened tokens, of those that the SAE stands in for. n_real: tokens that are no
            padding.
        rows_b: the examples' numbers in the cache.
    """

    h_mbld: tuple[Tensor, ...]
    next_mbld: tuple[Tensor, ...]
    logits_mbc: tuple[Tensor, ...]
    mask_bl: Tensor
    at_bp: Tensor | None
    coded_n: Tensor
    n_real: int
    rows_b: np.ndarray

    def coded(self, model: int) -> Tensor:
        """Activations that the SAE reads, (coded tokens, width)."""
        return self.h_mbld[model].flatten(0, 1)[self.coded_n]

    def hijacked(self, model: int, hhat_nd: Tensor) -> Tensor:
        """The model's activations, (examples, tokens, width), with these, (coded, width), in place of the coded ones; all
        others, pads among them, stay."""
        h = self.h_mbld[model]
        flat = h.flatten(0, 1).index_copy(0, self.coded_n, hhat_nd.to(h.dtype))
        return flat.view(h.shape)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Examples of a split with all that is clean of them; arrays may be memory maps.

    Attributes:
        h: activations at the site of models A and B, (examples, tokens, width) each, any float type; pads included.
        next: the next layer's states, likewise. logits: (examples, classes) each, float32; of language models
            (examples, predictions, classes).
        mask: true where a token is no padding, (examples, tokens), each row's tokens first.
        special: true where a token is [CLS] or [SEP], or one of a language model that is not studied, likewise.
        labels: class of each example, or of each prediction, from 0 on. tokens: ids, (examples, tokens).
        document: what each example is of, non-decreasing: what is independent of what else.
        at: positions of the predictions, (examples, predictions); None of classifiers.
        where: opens the sentence of an error: the files, and the split.

    Raises:
        UserError: shapes do not belong together, a label is negative, or an example has no token.
    """

    h: tuple[np.ndarray, np.ndarray]
    next: tuple[np.ndarray, np.ndarray]
    logits: tuple[np.ndarray, np.ndarray]
    mask: np.ndarray
    special: np.ndarray
    labels: np.ndarray
    tokens: np.ndarray
    document: np.ndarray
    at: np.ndarray | None = None
    where: str = ""

    def __post_init__(self) -> None:
        n, length = self.mask.shape
        width = self.h[0].shape[-1]
        classes = self.logits[0].shape[-1]
        predictions = (n,) if self.at is None else (n, self.at.shape[-1])
        wanted = {
            **{f"h of {m}": (x, (n, length, width)) for m, x in zip(MODELS, self.h, strict=True)},
            **{
                f"next of {m}": (x, (n, length, width))
                for m, x in zip(MODELS, self.next, strict=True)
            },
            **{
                f"logits of {m}": (x, (*predictions, classes))
                for m, x in zip(MODELS, self.logits, strict=True)
            },
            "special": (self.special, (n, length)),
            "tokens": (self.tokens, (n, length)),
            "labels": (self.labels, predictions),
            "document": (self.document, (n,)),
        }
        for name, (array, shape) in wanted.items():
            if array.shape != shape:
                raise UserError(
                    at(
                        self.where,
                        f"cached {name} is of shape {array.shape}, not {shape}; make the cache again from both models "
                        "on the same tokens",
                    )
                )
        if n == 0 or not self.mask.any(axis=1).all():
            said = "a cached example has no tokens; leave empty texts out"
            raise UserError(at(self.where, said))
        # Scored as accuracy, an unlabelled test split changes by exactly 0 whatever the SAE does.
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise UserError(
                at(
                    self.where,
                    f"labels from {self.labels.min()} to {self.labels.max()} are not classes 0 to {classes - 1}; "
                    "-1 means an unlabelled split: take the validation split",
                )
            )

    @property
    def width(self) -> int:
        return int(self.h[0].shape[-1])

    def __len__(self) -> int:
        return len(self.mask)

    def coded(self, special_tokens: bool) -> np.ndarray:
        """Where the SAE stands in for the model, (examples, tokens)."""
        found: np.ndarray = self.mask if special_tokens else self.mask & ~self.special
        return found

    def parts(self, special_tokens: bool, tokens: int) -> Iterator[slice]:
        """Consecutive examples of about so many coded tokens."""
        lengths = self.coded(special_tokens).sum(axis=1)
        ends = np.cumsum(lengths)
        first = 0
        while first < len(self):
            done = ends[first] - lengths[first]
            last = max(first + 1, int(np.searchsorted(ends, done + tokens, side="right")))
            yield slice(first, last)
            first = last

    def pairs(self, rows: np.ndarray | slice, special_tokens: bool = True) -> Pairs:
        """Float32 activations of both models on coded tokens of some examples, in the order given, (tokens, width), in memory."""
        coded = self.coded(special_tokens)[rows]
        a, b = (h[rows][coded].astype(np.float32) for h in self.h)
        return Pairs(a, b, np.repeat(np.arange(len(coded)), coded.sum(axis=1)), self.where)

    def coded_tokens(self, special_tokens: bool) -> CodedTokens:
        """Coded tokens of all examples, which are read as they are needed."""
        return CodedTokens(self, special_tokens)

    def batch(
        self,
        rows: np.ndarray,
        special_tokens: bool,
        device: str,
        models: tuple[int, ...] = (0, 1),
    ) -> Batch:
        """Examples padded to the longest of them.

        Args:
            rows: their numbers, (examples,). special_tokens: whether [CLS] and [SEP] are coded. models: whose arrays are read.
        """
        import torch

        mask = self.mask[rows]
        longest = int(mask.any(axis=0).nonzero()[0][-1]) + 1
        mask, coded = mask[:, :longest], self.coded(special_tokens)[rows][:, :longest]

        def tensor(array: np.ndarray, model: int, tokens: bool = True) -> Tensor:
            if model not in models:
                return torch.empty(0)
            part = array[rows, :longest] if tokens else array[rows]
            return torch.from_numpy(part.astype(np.float32, copy=False)).to(device)

        def indices(where: np.ndarray) -> Tensor:
            return torch.from_numpy(np.flatnonzero(where)).to(device)

        return Batch(
            tuple(tensor(array, model) for model, array in enumerate(self.h)),
            tuple(tensor(array, model) for model, array in enumerate(self.next)),
            tuple(tensor(array, model, False) for model, array in enumerate(self.logits)),
            torch.from_numpy(np.ascontiguousarray(mask)).to(device),
            None if self.at is None else torch.from_numpy(self.at[rows]).to(device),
            indices(coded),
            int(mask.sum()),
            rows,
        )


class CodedTokens(NamedTuple):
    """`crossseed.joint.maps.Tokens` of a split: some are in memory at a time, however many there are.

    Attributes:
        cache: the split. special_tokens: whether [CLS] and [SEP] are among them.
    """

    cache: Cache
    special_tokens: bool

    @property
    def where(self) -> str:
        return self.cache.where

    @property
    def width(self) -> int:
        return self.cache.width

    @property
    def n_sequences(self) -> int:
        return len(self.cache)

    def blocks(self) -> Iterator[Pairs]:
        """All of them, some at a time, in the order of their sequences."""
        for part in self.cache.parts(self.special_tokens, maps.BLOCK_ROWS):
            found = self.cache.pairs(part, self.special_tokens)
            yield found._replace(sequence_n=found.sequence_n + part.start)
