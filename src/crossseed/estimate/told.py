"""An estimate in words: a line, and a table."""

from __future__ import annotations

from crossseed import plan
from crossseed.config.schema import RunConfig
from crossseed.estimate.rates import GPU_START_SECONDS, MODEL_RATE, SAE_RATE
from crossseed.estimate.stages import stages


def downloads(run: RunConfig) -> float:
    """Bytes of models that come from the hub, each member once."""
    return float(
        sum(
            config.loaded_bytes * len(plan.loaded(run, cohort))
            for cohort, config in run.cohorts.items()
            if config.downloaded
        )
    )


def short(run: RunConfig) -> str:
    """Disk and GPU-hours in one line, as the shipped configs state them."""
    every = stages(run)
    seconds = sum(stage.gpu_seconds for stage in every)
    passing = sum(s.disk_bytes for s in every if s.name == "extract" and not run.keep_activations)
    disk = size(sum(stage.disk_bytes for stage in every) - passing)
    more = f" ({size(passing)} more while it runs)" if passing else ""
    fetched = downloads(run)
    models = f", {size(fetched)} of models downloaded" if fetched else ""
    return f"Estimate: {disk} of results{more}{models}, {_hours(seconds)} with one data-centre GPU."


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f} GPU-hours" if hours >= 10 else f"{hours:.1f} GPU-hours"


def size(n: float) -> str:
    """Bytes in words."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 1e6:.1f} MB"


def text(run: RunConfig, estimate: bool) -> str:
    """A table of the stages of a run, with what they take if `estimate`."""
    lines = [f"{'stage':<22}{'jobs':>8}"]
    if estimate:
        lines[0] += f"{'disk':>12}{'FLOP':>12}{'GPU-hours':>12}"
    for stage in stages(run):
        line = f"{stage.name:<22}{stage.jobs:>8,}"
        if estimate:
            hours = f"{stage.gpu_seconds / 3600:.2f}" if stage.gpu_seconds else "–"
            line += f"{size(stage.disk_bytes):>12}{stage.flop:>12.2g}{hours:>12}"
        lines.append(line)
    if estimate:
        lines += [
            "",
            short(run),
            f"Assumed: {MODEL_RATE / 1e12:.0f} TFLOP/s in models, {SAE_RATE / 1e12:.0f} in SAEs, "
            f"{GPU_START_SECONDS} s a job until it computes. Time to download is not counted, nor text.",
        ]
    return "\n".join(lines) + "\n"
