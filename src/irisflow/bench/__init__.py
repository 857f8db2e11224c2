"""Measures how fast every phase of training is: `irisflow bench`. docs/benchmark.md says what the figures mean."""
