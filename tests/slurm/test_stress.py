"""A SLURM under stress, some scenarios once; `make test-slurm-stress` runs all of them, and more often."""

import os

import pytest
from slurm import node, stress

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
COUNT = int(os.environ.get("STRESS", "0"))
# Of the others the shortest proofs are in test_slurm.py.
QUICK = ("batch", "batch-memory", "batch-gpus", "drain", "stale-killed-back")


@pytest.fixture(scope="module", autouse=True)
def slurm():
    try:
        with node.running() as folder:
            yield folder
    except node.NodeError as error:
        pytest.fail(str(error), pytrace=False)


WITHOUT_ACCOUNTING = [name for name in stress.SCENARIOS if name not in stress.ACCOUNTED]


@pytest.mark.parametrize("name", WITHOUT_ACCOUNTING if COUNT else QUICK)
def test_nothing_is_lost(name):
    found = stress.Outcome()
    for _ in range(COUNT or 1):
        stress.SCENARIOS[name][1](found)
    assert found.lost == []
    assert found.done == found.runs == (COUNT or 1)
