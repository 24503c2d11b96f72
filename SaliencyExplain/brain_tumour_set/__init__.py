"""A plugin: the MATLAB files of a public set of brain tumours, and the study that they make.

Nothing else of the project imports this package; ``pyproject.toml`` registers its reader and its
study layout as any other package would.
"""
