"""mmrepro: multimodal recommendation, reproduced."""

__version__ = "0.1.0"
