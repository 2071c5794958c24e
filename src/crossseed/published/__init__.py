"""Measurements exactly as the studies made them, defects included, for the claims table alone.

Nothing here belongs in a rigorous table: fits are scored on the tokens they were fitted on,
variances are about one grand mean, and tests assume independence where there is none. Each
module says what its protocol does differently. Where a rigorous table shows such a number beside its
own (the published KS test, the published distance of drift), its column or metric says so; a test
knows every module that may import this package.
"""

from __future__ import annotations

from crossseed.pairs import CELL

COLUMNS = (*CELL, "dictionary", "init", "quantity", "value")
