"""The commands, one file per group: each parses its options and makes one call.

Each file has ``add_commands(app)``, which :mod:`serkit.cli` calls in the order of ``serkit --help``. Everything
heavy is imported inside the commands.
"""
