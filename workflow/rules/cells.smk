# Inputs that are results of other cells: activations, dictionaries, maps, null draws.
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
    untrained = RUN.transfer.untrained if RUN.transfer else None
    if untrained is None or wildcards.source == wildcards.target:
        return []
    return layout.ACTIVATIONS.format(
        **{**wildcards, "checkpoint": untrained}, seed=wildcards.target
    )


def at_all_sites(template, **roles):
    """A pair's files at all sites of its cohort; `roles` rename wildcards."""

    def paths(wildcards):
        renamed = {name: wildcards[role] for name, role in roles.items()}
        return [
            template.format(**{**wildcards, **renamed, "site": site})
            for site in plan.sites(RUN, wildcards.cohort)
        ]

    return paths


def weights_at_all_sites(wildcards):
    """The source's dictionaries at all sites of its cohort."""
    return [
        path
        for site in plan.sites(RUN, wildcards.cohort)
        for path in weights_of("source")({**wildcards, "site": site})
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


def maps_of_cohort(wildcards):
    """Moments of the anchor's pairs at all sites."""
    return [
        layout.MAPS.format(**pair._asdict())
        for site in plan.sites(RUN, wildcards.cohort)
        for pair in plan.anchored(
            RUN, plan.Place(wildcards.cohort, wildcards.checkpoint, site)
        )
    ]


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
            for found in plan.dictionaries_of(RUN, wildcards["cohort"], *seeds)
            for init in found.inits
        ]

    return paths


def maps_of(wildcards):
    """The maps of a pair; nothing for a member with itself."""
    return (
        [] if wildcards.source == wildcards.target else layout.MAPS.format(**wildcards)
    )
