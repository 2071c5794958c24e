"""Cases of the rerun table, a module a part of the configuration."""
