"""Kernels in C++ for what torch has no fast way for on a CPU, compiled for the machine they are used on.

Torch can do everything that they do: where there is no compiler, it does.
"""
