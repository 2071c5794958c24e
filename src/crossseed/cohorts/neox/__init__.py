"""Small GPT-NeoX models trained here on the corpus, saved as ordinary transformers folders."""
