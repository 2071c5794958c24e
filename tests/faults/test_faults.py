"""Few of each fault, as `make test-faults` runs them; more by `harness.py --count`."""

import os

import harness
import pytest

pytestmark = pytest.mark.faults
COUNT = int(os.environ.get("FAULTS", "2"))


@pytest.fixture(scope="module")
def context():
    with harness.working(seed=0) as found:
        yield found


@pytest.mark.parametrize("name", harness.SCENARIOS)
def test_nothing_is_lost(context, name):
    found = harness.Outcome()
    harness.SCENARIOS[name][1](context, found, COUNT)
    assert found.lost == []
    if name != "disk-small" or found.faults:
        assert found.faults >= COUNT
