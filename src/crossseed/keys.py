"""What names a model, a pair of models and a cell of a study, in specs and as the first columns of tables."""

from __future__ import annotations

MEMBER = ("cohort", "seed", "checkpoint")
# A member, and one on the way to another, whatever the site.
JOURNEY = ("cohort", "source_seed", "target_seed", "checkpoint")
PAIR = (*JOURNEY, "site")
# All members of a cohort together.
PLACE = ("cohort", "checkpoint", "site")
# SAEs of one member and site that differ in their seed.
SEEDED = (*MEMBER, "site", "dictionary")
