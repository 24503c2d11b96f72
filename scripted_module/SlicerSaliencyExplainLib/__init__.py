"""What the Saliency Explain module of 3D Slicer is made of: plain Python beside its file."""
