"""What each path below a results folder is: a file of which kind, of which cell."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from crossseed import card, layout, pairs
from crossseed.activations import ACTIVATIONS_SCHEMA, TOKENS_SCHEMA
from crossseed.cohorts.dyck.config import CHECKPOINTS, CHECKPOINTS_SCHEMA
from crossseed.cohorts.hub import check
from crossseed.cohorts.neox import config as neox
from crossseed.cohorts.neox import provenance
from crossseed.gauge import SCHEMA as ALIGNMENT_SCHEMA
from crossseed.haar.null import SCHEMA as NULL_SCHEMA
from crossseed.joint import MAPS_SCHEMA as JOINT_MAPS_SCHEMA
from crossseed.joint import SAE_SCHEMA as JOINT_SAE_SCHEMA
from crossseed.joint.cache import SCHEMA as CACHE_SCHEMA
from crossseed.joint.conditions import Condition
from crossseed.joint.tables import ITEM_COLUMNS
from crossseed.sae.dictionary import SCHEMA as DICTIONARY_SCHEMA
from crossseed.sae.formats import SCHEMA as PORTED_SCHEMA
from crossseed.stability import LATENT_COLUMNS
from crossseed.stability.matched import SCHEMA as MATCHED_SCHEMA
from crossseed.tables import COLUMNS

Form = Literal[
    "hdf5", "tensors", "foreign tensors", "model", "table", "json", "lines", "figure", "page"
]


class Kind(NamedTuple):
    """Files of one template.

    Attributes:
        template: of `crossseed.layout`.
        form: how it is read.
        schema: of HDF5 and safetensors artefacts, or of the weights that a document is of.
        columns: of tables; None for a table of the report, which are those of its name.
        target: the template that the workflow knows the file by.
        holds: its parts and their shapes, in words.
    """

    template: str
    form: Form
    schema: str = ""
    columns: tuple[str, ...] | None = ()
    target: str = ""
    holds: str = ""


class Place(NamedTuple):
    """What a path is.

    Attributes:
        kind: the kind of file. cell: its wildcards. target: what Snakemake makes it as.
    """

    kind: Kind
    cell: Mapping[str, str]
    target: str

    @property
    def named(self) -> dict[str, str]:
        """The cell as tables and specs name it."""
        names = _OF_POWER if self.kind.template == layout.POWER else _ROLES
        found = {names.get(name, name): value for name, value in self.cell.items()}
        if self.kind.template.startswith(layout.PORT) and self.kind.form == "table":
            found["dictionary"] = f"{self.cell['dictionary']}-{self.cell['init']}"
        if "condition" in found:
            condition = Condition.of_name(found["condition"])
            found |= {"condition": condition.condition, "init": condition.init}
        # A file holds retrainings of one kind, or of several.
        if self.kind.template == layout.JOINT_NULL:
            del found["null"]
        return found


_ROLES = {"source": "source_seed", "target": "target_seed"}
_OF_POWER = {"width": "d", "draws": "null_draws"}


# Tables by template, with the name of their columns in `crossseed.tables`.
_TABLES = (
    (layout.MODEL_TABLE.replace("{table}", "quality"), "quality"),
    (layout.MODEL_TABLE.replace("{table}", "training"), "training"),
    (layout.DICTIONARY_METRICS, "dictionaries"),
    (layout.SEED_METRICS, "dictionaries"),
    (layout.FITS, "fits"),
    (layout.SHARED, "fits"),
    (layout.DIRECTIONS, "directions"),
    (layout.TRANSFER, "transfer"),
    (layout.SHARED_TRANSFER, "transfer"),
    (layout.EVIDENCE, "evidence"),
    (layout.SPLICE, "splice"),
    (layout.SPLICE_EVIDENCE, "evidence"),
    (layout.PUBLISHED, "published"),
    (f"{layout.PORT}/card.csv", "ports"),
    (layout.STEERING, "steering"),
    (layout.FEATURES, "features"),
    (layout.ATTRIBUTION, "attribution"),
    (layout.ATTRIBUTION_CELLS, "attribution_cells"),
    (layout.STABILITY, "stability"),
    (layout.BRIDGE, "bridge"),
    (layout.ABSORPTION, "absorption"),
    (layout.CALIBRATION, "calibration"),
    (layout.INTERPRET, "interpret"),
    (layout.INTERPRET_STEPS, "interpret_steps"),
    (layout.WEIGHTS, "weights"),
    (layout.JOINT, "joint"),
    (layout.CAUSES, "causes"),
    (layout.LENSES, "lenses"),
    (layout.BARS, "bars"),
    (layout.COSINE, "decoder_cosine"),
    (layout.POWER, "power"),
    (layout.HAAR, "haar"),
    (layout.ACROSS, "haar"),
    (layout.KS, "ks"),
    (layout.PHASES, "phases"),
    (layout.COCYCLE, "cocycle"),
    (layout.DRIFT, "drift"),
    (layout.DRIFT_SEED, "drift"),
    (layout.OVER_SEEDS, "over_seeds"),
    (layout.CLAIMS, "claims"),
    (layout.JOINT_FITS, "joint_fits"),
    (layout.JOINT_HISTORY, "joint_training"),
    (layout.JOINT_CONDITION, "joint_conditions"),
    (layout.JOINT_LATENTS, "joint_latents"),
    (layout.JOINT_NULL, "joint_nulls"),
    (layout.JOINT_TESTS, "joint_tests"),
    (layout.JOINT_SIZES, "joint_sizes"),
    (layout.JOINT_HALVES, "joint_halves"),
    (layout.JOINT_COUNTERFACTUALS, "joint_counterfactuals"),
    (layout.JOINT_CONTEXTS, "joint_contexts"),
    (layout.JOINT_POOLED, "joint_pooled"),
    (layout.JOINT_REGRESSION, "joint_regression"),
)
PORT_CFG, PORT_WEIGHTS = (f"{layout.PORT}/{name}" for name in layout.PORT_FILES[:2])
# Written by several jobs in turn, so that no log knows what they hold.
SHARED = (layout.PASSES, layout.CHECK_PASSES)

# What files hold, by part; (shape).
_OF_TOKENS = "for each of `fit`, `train`, `eval`: `tokens` and `keep` (sequences, positions), `document` (sequences), and labels of toys"
_OF_ACTIVATIONS = (
    "for each of `fit`, `train`, `eval`: `activations` (tokens, width); `document`, `position`, `sequence`, `token` (tokens), and "
    "labels of toys"
)
_OF_PAIRS = (
    "moments of paired tokens of `fit`: for each of two `halves`, `shuffled` and `untrained`, `covariance_a`, `covariance_b`, "
    "`cross_covariance` (width, width), `mean_a`, `mean_b` (width), `n`; `skewness` along principal axes"
)
_OF_CACHES = (
    "for each split what is clean: `h` at the site and `next` after the layer above (texts, positions, width), `logits`, "
    "`tokens`, `mask`, `special`, `labels`, `document`"
)
_OF_JOINT_MAPS = "for each map `matrix_dd` (width of B, width of A), `shift_in_d`, `shift_out_d`"
_OF_NULLS = "statistics of Haar draws: `spectral` by sign of the determinant, `entries`, `participation`, `law`"
_OF_SAES = "`W_enc` (width, latents), `b_enc`, `W_dec` (latents, width), `b_dec`, and what the architecture has more: SAELens's format"
_OF_MATCHED = (
    "the partner and cosine of each latent, by decoders and by encoders, as they stand and on data"
)
_OF_JOINT_SAES = (
    "by model 0 or 1, or 0 for both: `W_enc`, `W_dec` (latents, width), `b_enc`, `b_dec`, `threshold`; and the `map` it was "
    "trained with"
)
_OF_ELEMENTS = "for each search the element that it found: `residual` (width, width), orders of heads and neurons, bases of heads"
_OF_PASSES = "which sites were read together, or which members checked"

KINDS = (
    Kind(layout.TOKENS, "hdf5", TOKENS_SCHEMA, holds=_OF_TOKENS),
    Kind(layout.ACTIVATIONS, "hdf5", ACTIVATIONS_SCHEMA, holds=_OF_ACTIVATIONS),
    Kind(layout.MAPS, "hdf5", pairs.SCHEMA, holds=_OF_PAIRS),
    Kind(layout.JOINT_CACHE, "hdf5", CACHE_SCHEMA, holds=_OF_CACHES),
    Kind(layout.JOINT_MAPS, "hdf5", JOINT_MAPS_SCHEMA, holds=_OF_JOINT_MAPS),
    Kind(layout.NULL, "hdf5", NULL_SCHEMA, holds=_OF_NULLS),
    Kind(
        CHECKPOINTS,
        "tensors",
        CHECKPOINTS_SCHEMA,
        holds="each checkpoint's weights, `final/W_E` (tokens, width) and so on",
    ),
    Kind(layout.DICTIONARY_WEIGHTS, "tensors", DICTIONARY_SCHEMA, holds=_OF_SAES),
    Kind(PORT_WEIGHTS, "tensors", PORTED_SCHEMA, holds=_OF_SAES),
    Kind(layout.MATCHED, "tensors", MATCHED_SCHEMA, holds=_OF_MATCHED),
    Kind(layout.JOINT_SAE, "tensors", JOINT_SAE_SCHEMA, holds=_OF_JOINT_SAES),
    Kind(layout.ELEMENTS, "tensors", ALIGNMENT_SCHEMA, holds=_OF_ELEMENTS),
    *(Kind(template, "table", columns=COLUMNS[name]) for template, name in _TABLES),
    Kind(layout.STABILITY_LATENTS, "table", columns=LATENT_COLUMNS),
    Kind(f"{layout.PORT}/card-evidence.csv", "table", columns=card.JUDGEMENT),
    Kind(layout.JOINT_ITEMS, "table", columns=ITEM_COLUMNS),
    Kind(layout.CHECK, "table", columns=check.COLUMNS),
    Kind(layout.TABLE, "table", columns=None),
    Kind(layout.DICTIONARY_CFG, "json", DICTIONARY_SCHEMA),
    Kind(PORT_CFG, "json", PORTED_SCHEMA),
    # Its config.json says what the weights beside it are.
    Kind(
        f"{layout.MODEL_FOLDER}/{provenance.CONFIG}",
        "model",
        holds="a model in transformers' format",
    ),
    Kind(f"{layout.MODEL_FOLDER}/{provenance.WEIGHTS}", "foreign tensors"),
    *(Kind(f"{layout.MODEL_FOLDER}/{name}", "json") for name in neox.TOKENIZER_NAMES),
    *(Kind(f"{layout.TOKENIZER}/{name}", "json") for name in neox.TOKENIZER_NAMES),
    *(Kind(template, "json", holds=_OF_PASSES) for template in SHARED),
    Kind(
        layout.EXPLANATIONS,
        "lines",
        holds="a latent a line: what it was explained by, as what, and its scores",
    ),
    Kind(f"{layout.DELPHI}/latents/{{site_again}}/config.json", "json", target=layout.DELPHI),
    Kind(
        f"{layout.DELPHI}/latents/{{site_again}}/{{range}}.safetensors",
        "foreign tensors",
        target=layout.DELPHI,
    ),
    Kind(
        f"{layout.DELPHI}/explanations/{{site_again}}_latent{{number}}.txt",
        "json",
        target=layout.DELPHI,
    ),
    Kind(f"{layout.REPORT}/figures/{{figure}}.svg", "figure"),
    Kind(f"{layout.REPORT}/figures/{{figure}}.png", "figure"),
    Kind(layout.PART, "table", columns=None),
    Kind(layout.PAGE, "page"),
    Kind(f"{layout.REPORT_FEATURES}/{{feature}}.html", "page", target=layout.PAGE),
    Kind(f"{layout.REPORT_FEATURES}/{{figure}}.html", "page", target=layout.REPORT_FEATURES),
)
# What one job writes: where one of these is, the others must be.
TOGETHER = (
    (layout.DICTIONARY_CFG, layout.DICTIONARY_WEIGHTS),
    tuple(f"{layout.PORT}/{name}" for name in layout.PORT_FILES),
    tuple(f"{layout.MODEL_FOLDER}/{name}" for name in neox.NAMES),
    tuple(f"{layout.TOKENIZER}/{name}" for name in neox.TOKENIZER_NAMES),
    tuple(layout.MODEL_TABLE.replace("{table}", name) for name in ("quality", "training")),
    (layout.FITS, layout.DIRECTIONS),
    (layout.TRANSFER, layout.EVIDENCE),
    (layout.SPLICE, layout.SPLICE_EVIDENCE),
    (layout.STABILITY, layout.STABILITY_LATENTS),
    (layout.INTERPRET, layout.INTERPRET_STEPS, layout.EXPLANATIONS),
    (layout.ATTRIBUTION, layout.ATTRIBUTION_CELLS),
    (layout.WEIGHTS, layout.JOINT, layout.ELEMENTS),
    (layout.ACROSS, layout.PHASES),
    (layout.JOINT_SAE, layout.JOINT_HISTORY),
    (layout.JOINT_SIZES, layout.JOINT_HALVES),
    (layout.JOINT_COUNTERFACTUALS, layout.JOINT_ITEMS, layout.JOINT_CONTEXTS),
)
_MORE = {
    "site_again": layout.WILDCARDS["site"],
    "range": r"\d+_\d+",
    "figure": r"[a-z0-9-]+",
    "feature": r"[A-Za-z0-9_-]+",
}


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    constraints = {**layout.WILDCARDS, **_MORE}
    if template in (layout.TABLE, layout.PART):
        constraints["table"] = "|".join(COLUMNS)
    parts = re.split(r"\{(\w+)\}", template)
    text = "".join(
        re.escape(part) if number % 2 == 0 else f"(?P<{part}>{constraints[part]})"
        for number, part in enumerate(parts)
    )
    return re.compile(text)


def place_of(path: str) -> Place | None:
    """What a path, from ``results/`` on, is; None if the workflow makes no such file."""
    for kind in KINDS:
        found = _pattern(kind.template).fullmatch(path)
        if found is None:
            continue
        cell = found.groupdict()
        target = kind.target.format(**cell) if kind.target else path
        if kind.columns is None:
            kind = kind._replace(columns=COLUMNS[cell["table"]])
        return Place(kind, cell, target)
    return None
