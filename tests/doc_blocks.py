"""The blocks of the documentation, and what is to be done with each.

A fenced block of ``sh`` or ``python`` is run, in the order of its page, in one folder for all pages. A comment in the
line before says what else:

    <!-- not run: REASON -->    it cannot be run here; everything that it names must exist
    <!-- dry run: REASON -->    Snakemake plans it, no more
    <!-- file: PATH -->         its text is written to that file, as the page asks its reader to do
"""

from __future__ import annotations

import argparse
import functools
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from crossseed.cli import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("sh", "python", "yaml", "text", "mermaid")
# Why a command is not run, or planned alone; an unknown reason is an error.
REASONS = (
    "a cluster", "a GPU", "a trained classifier", "an endpoint", "hours", "root", "the hub", "the network",
)  # fmt: skip
MARKS = ("not run", "dry run", "file")
FENCE = re.compile(r"^(?:<!-- ([^:>]+): ([^\n]*?) -->\n)?```(\w*)\n(.*?)^```$", re.M | re.S)
LISTED = re.compile(r" *(?:[-*+]|\d+[.)]) ")
# Programs that pages name and this project does not bring.
OTHERS = ("cat", "export", "hf", "scancel", "sed", "source")


class Block(NamedTuple):
    """Attributes:
    page: its name. line: of its text.
    mark, why: as above; empty where it is run.
    """

    page: str
    line: int
    language: str
    mark: str
    why: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines, joined where they go on, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [
            line
            for line in joined.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        ]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page.

    Raises:
        ValueError: a language, mark or reason that has no meaning.
    """
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark, why, language, body = (part or "" for part in match.groups())
        # Other comments stand before blocks too, such as those between which a program writes.
        if mark not in MARKS and language not in ("sh", "python"):
            mark = why = ""
        block = Block(page.name, text[: match.start(4)].count("\n") + 1, language, mark, why, body)
        if language not in LANGUAGES:
            raise ValueError(
                f"{block.page}:{block.line}: a block of {language!r}, expected one of {LANGUAGES}"
            )
        if mark and (mark not in MARKS or (mark != "file" and why not in REASONS)):
            raise ValueError(
                f"{block.page}:{block.line}: {mark}: {why} has no meaning; reasons are {REASONS}"
            )
        found.append(block)
    return found


def indented(text: str) -> list[int]:
    """Lines, from 1, that Markdown shows as code because of four spaces or a tab before them, where no fence and no list is."""
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    found, after_blank, in_list = [], True, False
    for number, line in enumerate(text.expandtabs(4).splitlines(), 1):
        if not line.strip():
            after_blank = True
            continue
        deep = line.startswith("    ")
        if LISTED.match(line) and not (deep and after_blank and not in_list):
            in_list = True
        elif not line.startswith(" ") and after_blank:
            in_list = False
        # What follows a line of text without a blank one goes on with it.
        if deep and not in_list and (after_blank or number - 1 in found):
            found.append(number)
        after_blank = False
    return found


@functools.cache
def snakemake_options() -> frozenset[str]:
    said = subprocess.run(
        [sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True, check=True
    )
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", said.stdout))


@functools.cache
def options_of(verb: str) -> frozenset[str]:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"crossseed.verbs.{verb}").add_arguments(parser)
    return frozenset(option for action in parser._actions for option in action.option_strings)


def unknown(command: str, folder: Path) -> list[str]:
    """What a command names that does not exist: programs, verbs, options, targets, extras, files of the project."""
    words = shlex.split(command, comments=True)
    program, rest = Path(words[0]).name, words[1:]
    options = [word.partition("=")[0] for word in rest if word.startswith("-")]
    if program == "snakemake":
        missing = [option for option in options if option not in snakemake_options()]
    elif program == "crossseed":
        if not rest or rest[0] not in VERBS:
            return [f"verb {rest[:1]}"]
        missing = [option for option in options if option not in options_of(rest[0])]
    elif program == "make":
        (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
        missing = [word for word in rest if "=" not in word and word not in targets.split()]
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
        missing = [
            name for word in rest for name in re.findall(r"\[(\w+)\]", word) if name not in extras
        ]
        pins = (ROOT / "constraints.txt").read_text().split()
        missing += [word for word in rest if "==" in word and word not in pins]
    elif program in ("python", "python3"):
        missing = [word for word in rest if word.endswith(".py") and not (ROOT / word).exists()]
    else:
        missing = [] if program in OTHERS else [f"program {program}"]
    # Files of the project; results are made by runs, and what a page asks its reader to write lies in the folder.
    for word in rest:
        if (
            re.match(r"(config|docs|tests|workflow|resources|benchmarks|envs)/", word)
            and not (folder / word).exists()
        ):
            missing.append(word)
    return missing
