"""RTMO, real-time one-stage multi-person pose estimation, in plain PyTorch.

Importing this package imports nothing else, so that data stages stay free of torch.
"""

__version__ = "0.1.0"
