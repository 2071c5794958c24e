"""The configuration: a typed model, its validation, and the reference page made from it."""
