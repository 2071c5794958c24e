# Inputs that are results of other cells: dictionaries, maps, and the tables that a run joins.
#
# Needs: common.smk. Makes: nothing.


def drift_dictionaries_of(wildcards):
    """Weights of the reference checkpoint's dictionaries that the drift study tries."""
    return [
        layout.DICTIONARY_WEIGHTS.format(
            **{**wildcards, "checkpoint": REFERENCE},
            site=site,
            dictionary=found.name,
            init=init,
        )
        for site in plan.sites(RUN, wildcards.cohort)
        for found in plan.drift_dictionaries(RUN, wildcards.cohort, int(wildcards.seed))
        for init in found.inits
    ]


def drift_of_seed(wildcards):
    """The drift tables of all checkpoints of a seed."""
    return [
        layout.DRIFT.format(checkpoint=checkpoint, **wildcards)
        for checkpoint in RUN.drift.checkpoints
    ]


def passes_of_cohorts():
    """(cohort, sites) of every forward pass that reads some site."""
    return [
        (cohort, sites)
        for cohort in (RUN.cohorts if RUN.dictionaries else ())
        for sites in passes.planned(
            layout.PASSES.format(cohort=cohort), plan.sites(RUN, cohort)
        )
        if sites
    ]


def activations_of(role):
    """The activation file of a pair's source or target."""
    return lambda wildcards: layout.ACTIVATIONS.format(
        seed=wildcards[role], **wildcards
    )


def untrained_of(wildcards):
    """The target before training, where the run names such a checkpoint; not for a member itself."""
    if RUN.transfer.untrained is None or wildcards.source == wildcards.target:
        return []
    return layout.ACTIVATIONS.format(
        **{**wildcards, "checkpoint": RUN.transfer.untrained}, seed=wildcards.target
    )


def at_all_sites(template, **roles):
    """A pair's files at all sites of its cohort; `roles` rename wildcards."""

    def paths(wildcards):
        renamed = {name: wildcards[role] for name, role in roles.items()}
        return [
            template.format(**wildcards, **renamed, site=site)
            for site in plan.sites(RUN, wildcards.cohort)
        ]

    return paths


def claimed():
    """Cohorts that stand for published ones."""
    return set(RUN.claims.cohorts.values())


def published_dictionaries(wildcards):
    """The source's dictionaries that follow the published recipe."""
    return [
        path
        for path in weights_of("source")(wildcards)
        if f"/{RUN.claims.dictionary}-" in path
    ]


def tables_of_claims(wildcards):
    """The run's tables that claims are measured from."""
    return [
        f"{layout.REPORT}/tables/{name}.csv".format(run=wildcards.run)
        for name in plan.tables(RUN)
        if name in plan.CLAIMED_TABLES
    ]


def nulls_of(wildcards):
    """Draws of every size that the tests of a pair may need."""
    return [
        layout.NULL.format(width=size, draws=RUN.haar.draws)
        for width in plan.widths(RUN, wildcards.cohort)
        for size in haar_sizes(width)
    ]


def null_of(wildcards):
    """Draws of the width of a cohort's sites."""
    (width,) = plan.widths(RUN, wildcards.cohort)
    return layout.NULL.format(width=width, draws=RUN.haar.draws)


def anchored_maps(wildcards):
    """Moments of the anchor's pairs at a site."""
    place = plan.Place(wildcards.cohort, wildcards.checkpoint, wildcards.site)
    return [layout.MAPS.format(**pair._asdict()) for pair in plan.anchored(RUN, place)]


def activations_of_seeds(wildcards):
    """Activations of all seeds at a site, in ascending order of the seeds."""
    return [
        layout.ACTIVATIONS.format(seed=seed, **wildcards)
        for seed in sorted(RUN.cohorts[wildcards.cohort].seeds)
    ]


def weights_of(role, *others):
    """The weight files of a pair's source or target: of all its dictionaries, or of those that
    the other member has too."""

    def paths(wildcards):
        seeds = [int(wildcards[name]) for name in (role, *others)]
        return [
            layout.DICTIONARY_WEIGHTS.format(
                seed=wildcards[role], dictionary=found.name, init=init, **wildcards
            )
            for found in plan.dictionaries_of(RUN, wildcards.cohort, *seeds)
            for init in found.inits
        ]

    return paths


def maps_of(wildcards):
    """The maps of a pair; nothing for a member with itself."""
    return (
        [] if wildcards.source == wildcards.target else layout.MAPS.format(**wildcards)
    )


def cells_of_table(wildcards):
    """The tables of all cells that a table of the run joins."""
    if wildcards.table == "drift":
        return [
            layout.DRIFT_SEED.format(cohort=cohort, seed=seed)
            for cohort, config in RUN.cohorts.items()
            for seed in config.seeds
        ]
    of_pairs = {"fits": layout.FITS, "directions": layout.DIRECTIONS}
    of_pairs |= {"splice": layout.SPLICE, "haar": layout.HAAR}
    of_places = {"haar": layout.ACROSS, "ks": layout.KS, "phases": layout.PHASES}
    of_places |= {"cocycle": layout.COCYCLE}
    if wildcards.table == "evidence":
        judged = [layout.EVIDENCE, layout.SPLICE_EVIDENCE][: 2 if RUN.splice else 1]
        pairs = [pair._asdict() for pair in plan.crossed(RUN)]
        return [path.format(**pair) for path in judged for pair in pairs]
    if wildcards.table in {*of_pairs, *of_places}:
        name = wildcards.table
        pairs, places = plan.crossed(RUN), plan.places(RUN)
        places = plan.triples(RUN) if name == "cocycle" else places
        keys = ("cohort", "source", "target", "checkpoint")
        whole = plan.journeys(RUN) if name == "fits" else []
        return [
            *(layout.SHARED.format(**dict(zip(keys, values))) for values in whole),
            *(of_pairs[name].format(**p._asdict()) for p in pairs if name in of_pairs),
        ] + [of_places[name].format(**p._asdict()) for p in places if name in of_places]
    if wildcards.table == "published":
        pairs = [pair for pair in plan.crossed(RUN) if pair.cohort in claimed()]
        return [layout.PUBLISHED.format(**pair._asdict()) for pair in pairs]
    if wildcards.table == "power":
        return [
            layout.POWER.format(width=width, **RUN.haar.model_dump())
            for width in plan.widths(RUN)
        ]
    members = [member._asdict() for member in plan.members(RUN)]
    pairs = [pair._asdict() for pair in plan.pairs(RUN)]
    if wildcards.table == "transfer":
        return [layout.TRANSFER.format(**pair) for pair in pairs]
    if wildcards.table == "decoder_cosine":
        return [layout.COSINE.format(**p) for p in pairs if p["source"] != p["target"]]
    if wildcards.table == "dictionaries":
        return [
            layout.DICTIONARY_METRICS.format(**member, site=site, dictionary=found.name)
            for member in members
            for site in plan.sites(RUN, member["cohort"])
            for found in plan.dictionaries_of(RUN, member["cohort"], member["seed"])
        ]
    # One table a trained seed, whatever the checkpoints.
    return [
        layout.MODEL_TABLE.format(cohort=cohort, seed=seed, table=wildcards.table)
        for cohort in plan.trained(RUN)
        for seed in RUN.cohorts[cohort].seeds
    ]


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
