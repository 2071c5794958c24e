"""Language models in transformers' format: on the hub, in its cache, or in local folders."""
