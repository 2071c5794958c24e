"""Whether a results folder still holds what its runs made: every file read again, and held against the others."""
