"""Losses: one file each, (outputs, batch, *, parameters) to a scalar."""
