"""SaliencyExplain: which voxels made the classifier say so, and are they the tumour?

The package needs no 3D Slicer and imports nothing heavy by itself: the command
line's ``--help`` must not wait for torch.
"""

__version__ = "0.1.0"
