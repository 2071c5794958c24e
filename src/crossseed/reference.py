"""Reference pages made from the code: config keys, the command line, artefacts, published figures."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

from crossseed.cli import VERBS
from crossseed.config.reference import page as configuration

# Verbs that are called by hand; the others are jobs, as some of these are too.
BY_HAND = ("plan", "verify", "compare", "port", "claims", "reference")


def command_line() -> str:
    """Every verb with its options, as Markdown."""
    lines = [
        "# The command line",
        "",
        "Made by `crossseed reference cli`. `crossseed VERB --help` says the same. Errors that a user can mend are one",
        "sentence and exit status 2.",
        "",
        "## By hand",
        "",
    ]
    for verb in BY_HAND:
        lines += _verb(verb)
    lines += [
        "## Jobs of the workflow",
        "",
        "A rule of the same name calls each. The log of every job opens with its command line, which can be run again.",
        "",
    ]
    for verb in VERBS:
        if verb not in BY_HAND:
            lines += _verb(verb)
    return "\n".join(lines)


def _verb(name: str) -> list[str]:
    """Heading, description and options of a verb."""
    parser = argparse.ArgumentParser(prog=f"crossseed {name}")
    module = importlib.import_module(f"crossseed.verbs.{name}")
    module.add_arguments(parser)
    described = " ".join((module.__doc__ or "").split("\n\n")[0].split())
    lines = [f"### `crossseed {name}`", "", described, "", "| option | |", "|---|---|"]
    options = [action for action in parser._actions if action.dest != "help"]
    lines += [f"| {_called(action)} | {_said(action)} |" for action in options]
    return [*(lines if options else lines[:-2]), ""]


def _called(action: argparse.Action) -> str:
    """How an option is written."""
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return f"`{value}`"
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    takes = "" if action.nargs == 0 else f" {value}"
    more = " …" if action.nargs in ("+", "*") else ""
    return f"`{action.option_strings[-1]}{takes}{more}`".replace("|", "\\|")


def _said(action: argparse.Action) -> str:
    """What an option is for, and whether it can be left out."""
    said = " ".join((action.help or "").replace("|", "\\|").split())
    plain = action.default in (None, False, argparse.SUPPRESS) or action.default == []
    if action.required and action.option_strings:
        return f"{said}; required" if said else "required"
    return said if plain else f"{said}; default `{action.default}`".removeprefix("; ")


def artefacts() -> str:
    """Every file of a results folder: where, of what form and schema, what it holds; and the columns of tables."""
    # Imported here: these know all studies.
    from crossseed.tables import COLUMNS
    from crossseed.verify.places import KINDS, TOGETHER

    forms = {"tensors": "safetensors", "foreign tensors": "safetensors", "lines": "JSON lines"}
    lines = [
        "# Artefacts",
        "",
        "Made by `crossseed reference artefacts`. HDF5 and safetensors files carry `schema`, `spec` (the settings of the job),",
        "`inputs` (digests of what they were made from), `version` and `digest` (of the content): as attributes in HDF5, as JSON under",
        "`crossseed` in the header of safetensors files. `crossseed.store` reads both, and refuses what is damaged or of another",
        "schema. A schema's number grows when its content changes.",
        "",
        "## Files",
        "",
        "| path | form | schema | holds |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        if kind.form != "table":
            form = forms.get(kind.form, kind.form)
            schema = f"`{kind.schema}`" if kind.schema else ""
            lines.append(f"| `{kind.template}` | {form} | {schema} | {kind.holds} |")
    lines += ["", "Written by one job, all of them or none:", ""]
    lines += [f"- {', '.join(f'`{name}`' for name in names)}" for names in TOGETHER]
    lines += [
        "",
        "## Tables of cells",
        "",
        "CSV, one header line, one row a number; missing values are empty.",
        "",
        "| path | columns |",
        "|---|---|",
    ]
    named = {columns: name for name, columns in COLUMNS.items()}
    for kind in KINDS:
        if kind.form == "table" and kind.columns:
            told = named.get(kind.columns)
            columns = f"those of `{told}`" if told else _columns(kind.columns)
            lines.append(f"| `{kind.template}` | {columns} |")
    lines += [
        "",
        "## Tables of a run",
        "",
        "`results/reports/{run}/tables/NAME.csv`: the rows of all cells. What metrics mean: [metrics.md](metrics.md).",
        "",
        "| name | columns |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {_columns(columns)} |" for name, columns in sorted(COLUMNS.items())]
    return "\n".join([*lines, ""])


def _columns(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{column}`" for column in columns)


def claims() -> str:
    """Every published figure, and what measures it."""
    # Imported here: it reads all configs.
    from crossseed.claims.coverage import page

    return page()


PAGES: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "cli": command_line,
    "artefacts": artefacts,
    "claims": claims,
}
