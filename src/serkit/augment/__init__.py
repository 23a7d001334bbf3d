"""Augmentations of waveforms or features, one file each; always applied after the split."""
