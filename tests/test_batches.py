"""What a job that is tried again asks for. How batches fail and succeed: tests/slurm."""

from pathlib import Path

import pytest
import yaml
from snakemake.common.tbdstring import TBDString
from snakemake.resources import Resource

from crossseed import batches

PROFILE = Path(__file__).parent.parent / "workflow/profiles/slurm/config.yaml"


@pytest.mark.parametrize("asked", [1500, lambda wildcards: 1500, lambda wildcards, input: 1500])
@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_each_try_asks_for_as_much_more(asked, attempt):
    grown = Resource("mem_mb", batches.growing(Resource("mem_mb", asked)))
    known = {"attempt": attempt, "input": [], "threads": 1, "rulename": "any"}
    assert grown.evaluate({}, **known).value == 1500 * attempt


def test_what_is_not_known_yet_does_not_grow():
    def unknown(wildcards):
        return TBDString()

    grown = batches.growing(Resource("mem_mb", unknown))
    assert isinstance(grown({}, attempt=2), TBDString)


def test_a_whole_batch_of_the_profile_fits_a_common_partition():
    profile = yaml.safe_load(PROFILE.read_text())
    groups, asked = profile["groups"], profile["set-resources"]
    assert set(groups.values()) == set(profile["group-components"])
    for rule, group in groups.items():
        minutes = asked[rule]["runtime"]
        assert minutes * profile["group-components"][group] <= 240, rule
