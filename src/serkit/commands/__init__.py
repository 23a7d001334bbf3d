"""The commands, one file per group: each parses its options and makes one call.

Each file ends in ``COMMANDS``, its functions, which :mod:`serkit.cli` makes commands of. Everything
heavy is imported inside the commands.
"""
