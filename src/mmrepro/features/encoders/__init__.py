"""The encoders, one module each, found by name."""
