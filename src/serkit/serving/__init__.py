"""A trained system as one folder, and prediction with it: files, folders, streams."""
