# Tables: which cells' files a table of the run joins, and what the run is asked for.
#
# Needs: common.smk. Makes: nothing.


@functools.cache
def joined():
    """By table of the run: templates of the files it joins, each with the cells it is filled for."""

    def trained(table):
        seeds = [
            {"cohort": cohort, "seed": seed, "table": table}
            for cohort in plan.trained(RUN)
            for seed in RUN.cohorts[cohort].seeds
        ]
        return [(layout.MODEL_TABLE, seeds)]

    def named(found):
        return [item._asdict() for item in found]

    crossed, places = named(plan.crossed(RUN)), named(plan.places(RUN))
    journeys = named(plan.journeys(RUN))
    checkpoints = dict.fromkeys((p["cohort"], p["checkpoint"]) for p in places)
    dictionaries = [
        {**member._asdict(), "site": site, "dictionary": found.name}
        for member in plan.members(RUN)
        for site in plan.sites(RUN, member.cohort)
        for found in plan.dictionaries_of(RUN, member.cohort, member.seed)
    ]
    seeded = named(plan.seeded_cells(RUN))
    inits = [*plan.sae_seeds(RUN), *plan.shuffled_seeds(RUN)]
    of_seeds = [{**cell, "init": init} for cell in seeded for init in inits]
    matched = [cell for cell in seeded if plan.matched(RUN, cell["dictionary"])]
    drifting = [
        {"cohort": cohort, "seed": seed}
        for cohort, config in RUN.cohorts.items()
        for seed in config.seeds
    ]
    published = [p for p in crossed if RUN.claims and p["cohort"] in claimed()]
    power = [
        {"width": width, **RUN.haar.model_dump()}
        for width in (plan.widths(RUN) if RUN.haar else [])
    ]
    return {
        "quality": trained("quality"),
        "training": trained("training"),
        "dictionaries": [
            (layout.DICTIONARY_METRICS, dictionaries),
            (layout.SEED_METRICS, of_seeds),
        ],
        "stability": [(layout.STABILITY, seeded)],
        "bridge": [(layout.BRIDGE, named(plan.bridges(RUN)))],
        "calibration": [(layout.CALIBRATION, matched)],
        "absorption": [(layout.ABSORPTION, named(plan.absorbing(RUN)))],
        "interpret": [(layout.INTERPRET, named(plan.interpreted(RUN)))],
        "interpret_steps": [(layout.INTERPRET_STEPS, named(plan.interpreted(RUN)))],
        "fits": [(layout.SHARED, journeys), (layout.FITS, crossed)],
        "directions": [(layout.DIRECTIONS, crossed)],
        "transfer": [
            (layout.SHARED_TRANSFER, journeys),
            (layout.TRANSFER, named(plan.pairs(RUN))),
        ],
        "evidence": [
            (layout.EVIDENCE, crossed),
            (layout.SPLICE_EVIDENCE, crossed if RUN.splice else []),
        ],
        "splice": [(layout.SPLICE, crossed)],
        "decoder_cosine": [(layout.COSINE, crossed)],
        "haar": [(layout.HAAR, crossed), (layout.ACROSS, places)],
        "ks": [
            (layout.KS, [{"cohort": c, "checkpoint": k} for c, k in checkpoints]),
        ],
        "phases": [(layout.PHASES, places)],
        "cocycle": [(layout.COCYCLE, named(plan.triples(RUN)))],
        "power": [(layout.POWER, power)],
        "ports": [(f"{layout.PORT}/card.csv", named(plan.ports(RUN)))],
        "steering": [(layout.STEERING, crossed)],
        "features": [(layout.FEATURES, crossed)],
        "attribution": [(layout.ATTRIBUTION, named(plan.attributed(RUN)))],
        "attribution_cells": [(layout.ATTRIBUTION_CELLS, named(plan.attributed(RUN)))],
        "weights": [(layout.WEIGHTS, named(plan.siblings(RUN)))],
        "joint": [(layout.JOINT, named(plan.siblings(RUN)))],
        "causes": [(layout.CAUSES, named(plan.opened(RUN)))],
        "bars": [(layout.BARS, named(plan.judged(RUN)))],
        "lenses": [(layout.LENSES, named(plan.seen(RUN)))],
        **tables_of_joint(),
        "drift": [(layout.DRIFT_SEED, drifting)],
        "published": [(layout.PUBLISHED, published)],
    }


def whole_of_table(wildcards):
    """All files that are written together with the tables that a table of the run joins."""
    if wildcards.table == "dictionaries":
        return [
            layout.DICTIONARY_WEIGHTS.format(
                **member._asdict(), site=site, dictionary=found.name, init=init
            )
            for member in plan.members(RUN)
            for site in plan.sites(RUN, member.cohort)
            for found in plan.dictionaries_of(RUN, member.cohort, member.seed)
            for init in found.inits
        ]
    if wildcards.table in ("quality", "training"):
        return [
            path
            for cohort in plan.trained(RUN)
            for path in expand(
                RUN.cohorts[cohort].trained_files,
                cohort=cohort,
                seed=RUN.cohorts[cohort].seeds,
            )
        ]
    return []


def tables_among(names):
    """Those of the run's tables that are among `names`."""
    return [
        f"{layout.REPORT}/tables/{name}.csv"
        for name in plan.tables(RUN)
        if name in names
    ]


def report_of_run():
    """The page and every figure on it."""
    page = f"results/reports/{RUN.run}/index.html"
    figures = expand(
        "results/reports/{run}/figures/{figure}.{format}",
        run=RUN.run,
        figure=plan.figures(RUN),
        format=("svg", "png"),
    )
    return [page, *figures]
