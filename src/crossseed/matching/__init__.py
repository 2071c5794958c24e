"""Which latents of two dictionaries are the same: cosines of directions, exact assignments, and what they count."""
