"""What names of recordings end in: files that libsndfile reads, and containers that the program ffmpeg reads."""

from __future__ import annotations

SOUND = (
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".aifc", ".au", ".caf", ".oga", ".sph",
)  # fmt: skip
"""Sound files (lower case), the preferred first where one clip stands in several formats."""

CONTAINERS = (
    ".m4a", ".mp4", ".3gp", ".aac", ".amr", ".asf", ".avi", ".flv", ".m4v", ".mka", ".mkv", ".mov", ".mpeg", ".mpg",
    ".spx", ".webm", ".wma", ".wmv",
)  # fmt: skip
"""Containers (lower case), whose track of sound is decoded by ffmpeg; sound before video, the common ones first."""
