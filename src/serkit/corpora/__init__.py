"""Corpora: one file each turns a folder on disk into a Manifest. Never decodes audio, never loads torch."""
