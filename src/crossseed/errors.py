"""Errors that a person reads: what is wrong, where, and what to do."""


class UserError(Exception):
    """Something the user can mend: a config value, an argument, a damaged file.

    The command line prints the message alone, without a traceback, and exits with 2.
    """


def at(where: str, said: str) -> str:
    """A sentence that opens with where it is so, if that is known."""
    return f"{where}: {said}" if where else said


class TrainingDiverged(UserError):
    """A loss became NaN or infinite; the message names the cell and the step."""
