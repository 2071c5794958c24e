"""What a language model is asked of a latent, and how its answers are read.

The protocol is that of delphi (EleutherAI), in words of our own: an explanation from windows in which the latent's tokens
are marked; *detection*, whether it fires in each of some windows; *fuzzing*, whether the tokens marked in each are right.
An answer that is not exactly of the form asked for counts as none.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence

import numpy as np

from crossseed.interpret import DETECTION, FUZZING
from crossseed.interpret.chat import Scorer
from crossseed.interpret.contexts import Items

OPEN, CLOSE = "<<", ">>"
# Windows that one question shows, as in delphi.
AT_ONCE = 5
FORM = "EXPLANATION:"

_EXPLAIN = """Below are excerpts of text. In each, the tokens on which one unit of a neural network is active stand between {open} and {close}. Say what these tokens, or what comes before them, have in common: a pattern that is as specific as the excerpts allow, in one short sentence, without listing the excerpts and without the signs {open} and {close}.
End your answer with one line of the form
{form} the pattern

{examples}
"""
_DETECT = """A unit of a neural network is active on text of this kind: {explanation}

Below are {n} excerpts, numbered from 1. Decide for each whether the unit is active anywhere in it.
Answer with a list of {n} digits and nothing else, 1 for active and 0 for not, e.g. {form}

{examples}
"""
_FUZZ = """A unit of a neural network is active on text of this kind: {explanation}

Below are {n} excerpts, numbered from 1, in each of which some tokens stand between {open} and {close}. Decide for each whether the unit is active on just these tokens.
Answer with a list of {n} digits and nothing else, 1 for yes and 0 for no, e.g. {form}

{examples}
"""


def marked(words: Sequence[str], marks_t: np.ndarray) -> str:
    """The text of a window, runs of marked tokens between the signs."""
    parts = []
    for here, run in itertools.groupby(
        zip(words, marks_t, strict=True), key=lambda item: bool(item[1])
    ):
        text = "".join(word for word, _ in run)
        parts.append(f"{OPEN}{text}{CLOSE}" if here else text)
    return "".join(parts)


def _numbered(texts: Sequence[str]) -> str:
    # One line each, whatever line breaks are in it.
    lines = (text.replace("\r", " ").replace("\n", " ⏎ ") for text in texts)
    return "\n".join(f"{number}: {line}" for number, line in enumerate(lines, start=1))


def explaining(texts: Sequence[str]) -> str:
    """The question for an explanation, from marked windows."""
    return _EXPLAIN.format(open=OPEN, close=CLOSE, form=FORM, examples=_numbered(texts))


def read_explanation(answer: str) -> str | None:
    """The pattern that an answer ends with; None if there is none."""
    found = re.search(rf"{FORM}[ \t]*(\S[^\n]*)\s*\Z", answer)
    return None if found is None else found.group(1).strip()


def asking(quantity: str, explanation: str, texts: Sequence[str]) -> str:
    """The question of detection or fuzzing."""
    template = {DETECTION: _DETECT, FUZZING: _FUZZ}[quantity]
    form = json.dumps([k % 2 for k in range(len(texts))])
    return template.format(
        explanation=explanation,
        n=len(texts),
        open=OPEN,
        close=CLOSE,
        form=form,
        examples=_numbered(texts),
    )


def read_answers(answer: str, n: int) -> list[bool] | None:
    """n decisions; None unless the answer is a list of n digits 0 or 1 and nothing else."""
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != n:
        return None
    if not all(type(value) is int and value in (0, 1) for value in found):
        return None
    return [value == 1 for value in found]


def texts_of(quantity: str, words_iw: Sequence[Sequence[str]], asked: Items) -> list[str]:
    """The windows as they are shown: with marks for fuzzing, else without."""
    nothing = np.zeros_like(asked.marks_it)
    shown = asked.marks_it if quantity == FUZZING else nothing
    return [marked(words, marks) for words, marks in zip(words_iw, shown, strict=True)]


def decide(scorer: Scorer, quantity: str, explanation: str, texts: Sequence[str]) -> np.ndarray:
    """What a scorer says of each window, (windows,): 1 or 0, NaN where its answer cannot be read.

    Raises:
        NotReached: it does not answer.
    """
    batches = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
    answers = scorer.ask_all([asking(quantity, explanation, batch) for batch in batches])
    found: list[float] = []
    for batch, answer in zip(batches, answers, strict=True):
        said = read_answers(answer, len(batch))
        found += [float("nan")] * len(batch) if said is None else [float(yes) for yes in said]
    return np.array(found)
