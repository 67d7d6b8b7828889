"""Fault-tolerant, elastic training of ResNet with Horovod and MPI."""

from importlib import metadata

try:
    __version__ = metadata.version("ft-horovod")
except metadata.PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"
