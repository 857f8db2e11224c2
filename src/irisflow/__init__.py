"""IRIS world-model agents as reproducible experiments."""
