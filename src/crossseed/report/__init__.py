"""The report of a run: sentences, figures and a page, all made from the run's tables."""
