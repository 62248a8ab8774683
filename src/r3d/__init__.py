"""3D convolutional networks for action recognition: from official lists to accuracy."""

from importlib.metadata import version

__version__ = version("r3d")
