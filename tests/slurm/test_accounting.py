"""A SLURM with accounting, where `sacct` is asked; skipped where its database is not installed."""

import os

import pytest
from slurm import node, stress

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def slurm():
    if node.missing(node.ACCOUNTING):
        pytest.skip(f"not installed: {' and '.join(node.ACCOUNTING_PACKAGES)}")
    try:
        with node.running(accounting=True) as folder:
            yield folder
    except node.NodeError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize("name", sorted(stress.ACCOUNTED))
def test_nothing_is_lost(name):
    count = int(os.environ.get("STRESS", "1"))
    found = stress.Outcome()
    for _ in range(count):
        stress.SCENARIOS[name][1](found)
    assert found.lost == []
    assert found.done == found.runs == count
