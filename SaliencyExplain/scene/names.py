"""The names that nodes of a scene carry: their attributes, node references and folders."""

from __future__ import annotations

PREFIX = "SaliencyExplain."

#: What a node is: one of the kinds below. Nodes without it are not ours.
KIND = f"{PREFIX}Kind"
ATTRIBUTION = "attribution"
BAND_LABELS = "band labels"
BAND_SEGMENTS = "band segments"
COLORS = "colors"

#: Of an attribution: what it takes to read it.
LABEL = f"{PREFIX}Label"
TITLE = f"{PREFIX}Title"
SIGNED = f"{PREFIX}Signed"
TARGET = f"{PREFIX}Target"
CLASSIFIER = f"{PREFIX}Classifier"
PARAMETERS = f"{PREFIX}Parameters"
PROVENANCE = f"{PREFIX}Provenance"
SHARE_DONE = f"{PREFIX}ShareDone"
THRESHOLD = f"{PREFIX}Threshold"
EVALUATION = f"{PREFIX}Evaluation"

#: Of a segmentation: what was told when its file was read.
FILE_NOTES = f"{PREFIX}FileNotes"

#: Of a folder in the subject hierarchy: ``image``, ``classifier`` or ``target``.
FOLDER = f"{PREFIX}Folder"

#: Roles of node references. MRML writes them as ``role:ID;``, so a role has no colon.
IMAGE_ROLE = f"{PREFIX}image"
CHANNEL_ROLE = f"{PREFIX}channel"
ATTRIBUTION_ROLE = f"{PREFIX}attribution"
COLORS_ROLE = f"{PREFIX}colors"
