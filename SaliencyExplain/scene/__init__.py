"""MRML: images, attributions, label bands, segmentations and views in a vtkMRMLScene."""
