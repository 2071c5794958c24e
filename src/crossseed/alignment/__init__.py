"""Maps between the activation spaces of two members, and the moments they are fitted from."""
