"""Print the reference of all config keys, as Markdown."""

from __future__ import annotations

import argparse

from crossseed.config.reference import page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> None:
    print(page(), end="")
