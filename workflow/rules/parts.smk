# What one command joins to a table of the run. Linux takes 128 KiB of a job's command, so that a table of more
# cells than `JOINED_AT_ONCE` is joined from parts.
#
# Needs: common.smk, tables.smk. Makes: nothing.

JOINED_AT_ONCE = 500


@functools.cache
def cells_of(table):
    """The tables of all cells that a table of the run joins, as many at a time as a command can name."""
    cells = [
        template.format(**cell) for template, cells in joined()[table] for cell in cells
    ]
    return [
        cells[first : first + JOINED_AT_ONCE]
        for first in range(0, len(cells), JOINED_AT_ONCE)
    ]


def cells_of_table(wildcards):
    """What a table of the run is joined from: tables of cells, or where they are many, of parts of them."""
    parts = cells_of(wildcards.table)
    if len(parts) == 1:
        return parts[0]
    return expand(layout.PART, **wildcards, part=range(len(parts)))


def cells_of_part(wildcards):
    """The tables of cells that a part of a table joins."""
    return cells_of(wildcards.table)[int(wildcards.part)]
