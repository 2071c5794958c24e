"""One module a verb of the command line: its options, and one call of the library."""
