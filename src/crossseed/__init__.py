"""crossseed: which features found in one neural network also hold in its siblings, and through which map?

As a library: ``import crossseed`` costs nothing, and a name below is imported when it is first asked for. None needs PyTorch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public names, and where each lives; those of one name at two places have one of their own here.
PUBLIC = {
    "UserError": "errors:UserError",
    # what a run left: its configuration, tables, pairs of members, dictionaries
    "load_config": "config.load:load_files",
    "read_table": "store:read_frame",
    "read_pair": "pairs:read",
    "open_readers": "pairs:open_readers",
    "load_dictionary": "sae.dictionary:load",
    "Dictionary": "sae.dictionary:Dictionary",
    # maps between two members, from the moments of paired tokens
    "Moments": "alignment.moments:Moments",
    "procrustes": "alignment.maps:procrustes",
    "haar_orthogonal": "alignment.maps:haar_orthogonal",
    "rotation_distance": "alignment.maps:rotation_distance",
    "maps_of_pair": "carried:of_pair",
    # what two dictionaries share
    "match": "matching.assignment:match",
    "directions": "matching.criteria:directions",
    "random_directions": "matching.criteria:random_directions",
    "compare_directions": "matching.criteria:compare",
    "summarise_directions": "matching.criteria:summary",
    # whether features hold in a sibling: every map and null, and the rule
    "transfer_features": "transfer:transfer",
    "evidence": "claim_rule:evidence",
}

if TYPE_CHECKING:
    from crossseed.alignment.maps import haar_orthogonal, procrustes, rotation_distance
    from crossseed.alignment.moments import Moments
    from crossseed.carried import of_pair as maps_of_pair
    from crossseed.claim_rule import evidence
    from crossseed.config.load import load_files as load_config
    from crossseed.errors import UserError
    from crossseed.matching.assignment import match
    from crossseed.matching.criteria import compare as compare_directions
    from crossseed.matching.criteria import directions, random_directions
    from crossseed.matching.criteria import summary as summarise_directions
    from crossseed.pairs import open_readers
    from crossseed.pairs import read as read_pair
    from crossseed.sae.dictionary import Dictionary
    from crossseed.sae.dictionary import load as load_dictionary
    from crossseed.store import read_frame as read_table
    from crossseed.transfer import transfer as transfer_features

__all__ = [
    "Dictionary",
    "Moments",
    "UserError",
    "compare_directions",
    "directions",
    "evidence",
    "haar_orthogonal",
    "load_config",
    "load_dictionary",
    "maps_of_pair",
    "match",
    "open_readers",
    "procrustes",
    "random_directions",
    "read_pair",
    "read_table",
    "rotation_distance",
    "summarise_directions",
    "transfer_features",
]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'crossseed' has no attribute {name!r}")
    # Imported here: what only runs a verb does without.
    import importlib

    module, _, inside = PUBLIC[name].partition(":")
    found = getattr(importlib.import_module(f"crossseed.{module}"), inside)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
