"""The symmetries of a transformer's weights, and alignment of two models through them."""
