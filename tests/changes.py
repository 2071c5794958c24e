"""Configurations, and other nested mappings, with some of their values replaced."""

import functools
import json
import operator

import yaml


def read(path):
    """A file of YAML, as `own`."""
    return own(yaml.safe_load(path.read_text(encoding="utf-8")))


def own(found):
    """A copy in which no block is another's too, as anchors make them in YAML."""
    return json.loads(json.dumps(found))


def at(found, keys):
    """What stands under keys, from the outermost in."""
    return functools.reduce(operator.getitem, keys, found)


def replaced(found, keys, value):
    """A copy with another value under keys; a last key that is not there is added."""
    copied = own(found)
    *outer, last = keys
    at(copied, outer)[last] = value
    return copied


def with_keys(found, keys):
    """A copy with other values of keys such as ``training__epochs``."""
    for key, value in keys.items():
        found = replaced(found, key.split("__"), value)
    return own(found)
