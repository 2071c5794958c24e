"""Published figures beside what a run measures, and what their controls do."""
