"""Is an orthogonal matrix Haar? Exact null draws, statistics, calibrated tests and their power."""
