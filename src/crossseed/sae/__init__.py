"""Sparse autoencoders: architectures, training, and the SAELens folders they are kept in."""
