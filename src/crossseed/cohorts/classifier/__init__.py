"""Text classifiers: BERT models fine-tuned here, on sentences that the project makes itself or on others' sets."""
