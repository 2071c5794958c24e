"""What the page says and draws of SAEs that two models share."""
