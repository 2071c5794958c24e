"""Measurements exactly as the studies made them, defects included, for the claims table alone.

Nothing here belongs in a rigorous table: fits are scored on the tokens they were fitted on,
variances are about one grand mean, and tests assume independence where there is none. Each
module says what its protocol does differently; a test keeps imports of this package to the
claims study and to the power table that shows what the published test can see.
"""

from __future__ import annotations

from crossseed.pairs import CELL

COLUMNS = (*CELL, "dictionary", "init", "quantity", "value")
