"""Encoders as ONNX: sound to the frames that the numpy encoders give, in one graph with the networks."""
