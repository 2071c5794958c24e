"""Text for cohorts of language models: where it comes from, and its token sets."""
