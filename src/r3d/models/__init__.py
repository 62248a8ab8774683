"""The networks: families of 3D convolutional networks for clips (b, c, t, h, w), and their files.

Which networks exist (`architectures`, `released`) is known without importing torch.
"""
