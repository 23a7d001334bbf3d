"""What the pretrained encoders share: strict loading, choice of layer, exact batches. Torch loads inside load()."""
