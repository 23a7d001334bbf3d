"""The commands, a file for each group: options in, one call out.

Each file has ``add_commands(app)``, which :mod:`serkit.cli` calls in the order of ``serkit --help``. Everything
heavy is imported inside the commands.
"""
