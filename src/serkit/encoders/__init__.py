"""Encoders: one file per family turns waveforms or texts into frames."""
