"""IRIS world-model agents as reproducible experiments."""

__version__ = "0.1.0"
