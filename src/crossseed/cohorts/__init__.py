"""Cohorts of sibling models: one package a kind."""
