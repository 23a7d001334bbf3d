"""A trained system as one folder, and what answers with it: files, folders, streams."""
