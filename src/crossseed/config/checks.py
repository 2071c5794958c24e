"""What the parts of a configuration ask of each other. Each check raises `ValueError` where they do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossseed.config.joint_checks import joint_fits
from crossseed.dictionary_names import name_of
from crossseed.sae import architectures

if TYPE_CHECKING:
    from crossseed.config.schema import RunConfig

# The most that were ever published of one SAE (arXiv 2406.04093).
MOST_LATENTS = 1 << 24


def of_run(run: RunConfig) -> None:
    """All of them; the first that fails is told.

    Raises:
        ValueError: with the key, what it has, and the remedy.
    """
    for check in (
        dictionaries_fit,
        tokens_suffice,
        sources_have_dictionaries,
        untrained_exists,
        something_is_studied,
        stability_fits,
        constructive_fits,
        interventions_fit,
        joint_fits,
        drift_exists,
        dictionary_names_distinct,
    ):
        check(run)


def dictionaries_fit(run: RunConfig) -> None:
    """No more latents than are known of, and as many as each architecture asks for.

    Raises:
        ValueError: a variant has too many latents, or a number that its architecture does not take.
    """
    for name, variant in run.dictionaries.items():
        for cohort, config in run.cohorts.items():
            for expansion in variant.expansions if config.width else ():
                if expansion * (config.width or 0) > MOST_LATENTS:
                    raise ValueError(
                        f"dictionaries.{name}.expansions: x{expansion} on {cohort} is "
                        f"{expansion * (config.width or 0):,} latents, expected {MOST_LATENTS:,} at most; lower it"
                    )
                said = variant.misfit(expansion * (config.width or 0))
                if said:
                    raise ValueError(f"dictionaries.{name}: {said} (x{expansion} on {cohort})")


def tokens_suffice(run: RunConfig) -> None:
    """Splits hold enough tokens for rotations and for batches.

    Raises:
        ValueError: `fit` is too small for a rotation, or `train` for a batch.
    """
    for cohort, config in run.cohorts.items():
        most, width = config.most_tokens("fit"), config.width
        if most is not None and width is not None and most < 2 * width:
            raise ValueError(
                f"cohorts.{cohort}.tokens.fit holds {most} tokens at most, but a rotation in "
                f"{width} dimensions needs {2 * width}; make the split larger"
            )
        most = config.most_tokens("train")
        for name, variant in run.dictionaries.items():
            if most is not None and variant.batch_tokens > most:
                raise ValueError(
                    f"dictionaries.{name}.batch_tokens = {variant.batch_tokens}, but "
                    f"cohorts.{cohort}.tokens.train holds {most} tokens at most; lower it"
                )


def sources_have_dictionaries(run: RunConfig) -> None:
    """Every source of `transfer` has dictionaries.

    Raises:
        ValueError: a variant is not trained on all members, but all of them are sources.
    """
    for name, variant in run.on_members.items():
        if run.transfer and run.transfer.pairs == "all" and variant.members != "all":
            raise ValueError(
                f"transfer.pairs = all needs dictionaries of every member, but "
                f"dictionaries.{name}.members = {variant.members}; set it to all"
            )


def untrained_exists(run: RunConfig) -> None:
    """Every cohort has the checkpoint that counts as untrained.

    Raises:
        ValueError: a cohort does not have it.
    """
    name = run.transfer.untrained if run.transfer else None
    for cohort, config in run.cohorts.items():
        if name is not None and config.missing_checkpoints([name]):
            raise ValueError(
                f"transfer.untrained names {name!r}, which cohorts.{cohort} does not have; name "
                "a checkpoint that it keeps (training.keep_steps) or that model.id can name, "
                "or null"
            )


def something_is_studied(run: RunConfig) -> None:
    """Studies have what they are about.

    Raises:
        ValueError: a study lacks what it is about, or there is none.
    """
    if run.transfer and not run.dictionaries:
        raise ValueError("transfer needs dictionaries; name some, or set transfer: null")
    for cohort, config in run.cohorts.items() if run.transfer else ():
        if len(config.seeds) < 2:
            raise ValueError(
                f"transfer carries between seeds, but cohorts.{cohort}.seeds has one; name "
                "another, or set transfer: null"
            )
    if run.splice and not run.transfer:
        raise ValueError("splice runs the members of transfer's pairs; give transfer")
    if run.claims:
        of_dictionaries = run.transfer or run.drift or run.stability
        if not (of_dictionaries or run.joint):
            raise ValueError(
                "claims are about pairs, checkpoints, SAE seeds and joint SAEs; give transfer, drift, stability "
                "or joint"
            )
        unknown = sorted(set(run.claims.cohorts.values()) - set(run.cohorts))
        if unknown:
            raise ValueError(
                f"claims.cohorts names {unknown[0]!r}, which is no cohort of this run; choose "
                f"from {', '.join(run.cohorts)}"
            )
        known = run.trained_names() if run.transfer or run.drift else run.seeded_names()
        if (run.claims.dictionary is None) == bool(of_dictionaries):
            raise ValueError(
                "claims.dictionary names what claims on pairs, checkpoints and SAE seeds are measured on; "
                + (f"choose from {', '.join(known)}" if known else "set it to null")
            )
        if of_dictionaries and run.claims.dictionary not in known:
            raise ValueError(
                f"claims.dictionary {run.claims.dictionary!r} is not made by this run; choose "
                f"from {', '.join(known)}"
            )
    if run.haar and not run.transfer:
        raise ValueError("haar tests the rotations of transfer's pairs; give transfer")
    studies = (run.drift, run.attribution, run.weights, run.joint)
    if not (run.dictionaries or any(studies)):
        raise ValueError(
            "nothing is measured; name dictionaries, or give drift, attribution, weights or joint"
        )


def stability_fits(run: RunConfig) -> None:
    """What `stability` names is there, and trained.

    Raises:
        ValueError: something it names is missing or does not fit.
    """
    study = run.stability
    for name in study.dictionaries if study else ():
        if name not in run.dictionaries:
            raise ValueError(
                f"stability.dictionaries names {name!r}, but dictionaries has "
                f"{', '.join(run.dictionaries) or 'none'}"
            )
    for name in study.matched.dictionaries if study and study.matched else ():
        if study is None or name not in study.dictionaries:
            raise ValueError(
                f"stability.matched.dictionaries names {name!r}, which stability.dictionaries does not"
            )
        architecture = run.dictionaries[name].architecture
        if not hasattr(architectures.module_of(architecture), "PENALTY"):
            raise ValueError(
                f"stability.matched.dictionaries names {name!r}, but {architecture} has no penalty: its k is "
                "its L0; set k, and leave the variant out"
            )
        penalty = architectures.module_of(architecture).PENALTY
        if getattr(run.dictionaries[name], penalty) <= 0:
            raise ValueError(
                f"dictionaries.{name}.{penalty} is 0, where the search of stability.matched starts; give a "
                "number above 0"
            )
    bridge = study.bridge if study else None
    for name in bridge.dictionaries if study and bridge else ():
        if study and name not in study.dictionaries:
            raise ValueError(
                f"stability.bridge.dictionaries names {name!r}, which stability.dictionaries does not"
            )
    if bridge and all(len(config.seeds) < 2 for config in run.cohorts.values()):
        raise ValueError(
            "stability.bridge matches SAEs of two members, but no cohort has two seeds; set it to null"
        )
    if study and bridge and bridge.seeds > study.seeds:
        raise ValueError(
            f"stability.bridge.seeds is {bridge.seeds}, but stability.seeds trains {study.seeds}; lower it"
        )
    for name in study.interpret.dictionaries if study and study.interpret else ():
        if study is None or name not in study.dictionaries:
            raise ValueError(
                f"stability.interpret.dictionaries names {name!r}, which stability.dictionaries does not"
            )
    for name in run.dictionaries:
        if name not in run.on_members and name not in (study.dictionaries if study else ()):
            raise ValueError(
                f"dictionaries.{name}.inits is empty and stability does not name the variant, so that none "
                "would be trained; name `shared` or `independent`, or leave it out"
            )
    reads_text = any(config.reads_text for config in run.cohorts.values())
    if study and study.absorption and not reads_text:
        raise ValueError(
            "stability.absorption is about first letters of tokens, but no cohort reads text; set "
            "stability.absorption: null"
        )
    if study and study.sites is not None:
        known = [site for config in run.cohorts.values() for site in config.sites]
        for site in study.sites:
            if site not in known:
                raise ValueError(
                    f"stability.sites names {site!r}, which no cohort has; choose from "
                    f"{', '.join(dict.fromkeys(known))}"
                )
        if not study.sites:
            raise ValueError("stability.sites is empty; name some, or null for all")


def constructive_fits(run: RunConfig) -> None:
    """`weights`, `bars` and `lenses` have toy cohorts, members and sequences enough.

    Raises:
        ValueError: one of them lacks some of these.
    """
    toys = {name: config for name, config in run.cohorts.items() if config.symmetric}
    for study in ("weights", "bars", "lenses"):
        if getattr(run, study) and not toys:
            raise ValueError(
                f"{study} is about cohorts whose symmetries are known (kind: dyck), of which there is "
                f"none; set {study}: null"
            )
    if run.weights and all(len(config.seeds) < 2 for config in toys.values()):
        raise ValueError("weights aligns two members; give a toy cohort two seeds")
    if run.bars and not run.weights:
        raise ValueError("bars match heads by the alignment of weights; give weights")
    for cohort, config in toys.items():
        name = run.weights.untrained if run.weights else None
        if name is not None and config.missing_checkpoints([name]):
            raise ValueError(
                f"weights.untrained names {name!r}, which cohorts.{cohort} does not have; name a "
                "checkpoint that it keeps (training.keep_steps), or null"
            )
        pruned = run.lenses.rows if run.lenses else 0
        if pruned > config.sequences_of("eval"):
            raise ValueError(
                f"lenses.rows = {pruned}, but cohorts.{cohort}.tokens.eval has "
                f"{config.sequences_of('eval')} sequences; lower it, or make the split larger"
            )
        asked = run.bars.batches * run.bars.rows if run.bars else 0
        if asked > config.sequences_of("eval"):
            raise ValueError(
                f"bars asks for {asked} sequences (batches × rows), but cohorts.{cohort}.tokens.eval "
                f"has {config.sequences_of('eval')}; lower one, or make the split larger"
            )


def interventions_fit(run: RunConfig) -> None:
    """Interventions have pairs, dictionaries, sequences and members that can be run so.

    Raises:
        ValueError: one of them lacks some of these.
    """
    for study in ("port", "steering", "features"):
        if getattr(run, study) and not run.transfer:
            raise ValueError(f"{study} is about transfer's pairs; give transfer")
    for name in run.port.dictionaries if run.port else ():
        if name not in run.on_members:
            raise ValueError(
                f"port.dictionaries names {name!r}, but the members have {', '.join(run.on_members)}"
            )
    if run.features:
        if not run.steering:
            raise ValueError("features takes concepts from steering; give steering")
        known = run.trained_names()
        if run.features.dictionary not in known:
            raise ValueError(
                f"features.dictionary {run.features.dictionary!r} is not made by this run; choose "
                f"from {', '.join(known)}"
            )
    attribution = run.attribution
    asked = attribution.batches * attribution.sequences if attribution else 0
    for cohort, config in run.cohorts.items():
        if asked > config.sequences_of("eval"):
            raise ValueError(
                f"attribution asks for {asked} sequences (batches × sequences), but cohorts.{cohort}."
                f"tokens.eval has {config.sequences_of('eval')}; lower one, or make the split larger"
            )
    for study in ("splice", "port", "attribution"):
        for cohort, config in run.cohorts.items() if getattr(run, study) else ():
            if config.why_not_resumed:
                raise ValueError(
                    f"{study}: cohorts.{cohort} {config.why_not_resumed}; set {study}: null"
                )
    for cohort, config in run.cohorts.items() if run.steering else ():
        said = config.why_not_steered
        if said:
            raise ValueError(f"steering: cohorts.{cohort} {said}; set steering: null")
        which = "prompts" if config.reads_text else "concepts"
        if not getattr(run.steering, which):
            raise ValueError(
                f"steering.{which} is empty, but cohorts.{cohort} is steered by them; name some, or set "
                "steering: null"
            )


def drift_exists(run: RunConfig) -> None:
    """What `drift` names is there.

    Raises:
        ValueError: a dictionary or a checkpoint is missing.
    """
    if run.drift is None:
        return
    for name in run.drift.dictionaries:
        if name not in run.on_members:
            raise ValueError(
                f"drift.dictionaries names {name!r}, but dictionaries has "
                f"{sorted(run.on_members) or 'none'}"
            )
    for cohort, config in run.cohorts.items():
        wanted = [run.drift.reference, *run.drift.checkpoints]
        missing = config.missing_checkpoints(wanted)
        if missing:
            raise ValueError(
                f"drift names {missing[0]!r}, which cohorts.{cohort} does not have; name "
                "checkpoints that it keeps (training.keep_steps) or that model.id can name"
            )
        if run.drift.dictionaries and run.drift.reference not in config.checkpoints:
            raise ValueError(
                f"drift.reference {run.drift.reference!r} is not in cohorts.{cohort}."
                "checkpoints, so it has no dictionaries; add it there"
            )


def dictionary_names_distinct(run: RunConfig) -> None:
    """No two dictionaries go by one name.

    Raises:
        ValueError: two would.
    """
    names = [
        name_of(name, expansion)
        for name, variant in run.dictionaries.items()
        for expansion in variant.expansions
    ]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two dictionaries would be called {name!r}; rename a variant")
