"""serkit: recorded speech in, emotion out, with numbers one can trust."""

__version__ = "0.1.0"
