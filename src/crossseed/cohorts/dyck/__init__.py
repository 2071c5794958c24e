"""Toy cohorts: Dyck-3 transformers trained by the project itself (arXiv 2605.24577)."""
