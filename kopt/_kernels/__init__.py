"""Kernels of layers: which axis is what, and the matrices that they stand for.

`axes` is the one table of kernel axes: for each layer class and each of its kernels,
the axes of the outputs, inputs, channels and the window. `folding` turns a kernel of
any rank into matrices and back. Optimizers, regularizers, pruning, clustering and
quantization read both.
"""
