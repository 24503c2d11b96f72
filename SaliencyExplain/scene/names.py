"""Names of node attributes, node references and folders in a scene."""

from __future__ import annotations

PREFIX = "SaliencyExplain."

#: Kind of a node: one of those below. Other nodes were not created here.
KIND = f"{PREFIX}Kind"
ATTRIBUTION = "attribution"
BAND_LABELS = "band labels"
BAND_SEGMENTS = "band segments"
COLORS = "colors"

#: Attributes of an attribution's node: the information to interpret it.
LABEL = f"{PREFIX}Label"
TITLE = f"{PREFIX}Title"
SIGNED = f"{PREFIX}Signed"
TARGET = f"{PREFIX}Target"
TARGET_INDEX = f"{PREFIX}TargetIndex"
CLASSIFIER = f"{PREFIX}Classifier"
PARAMETERS = f"{PREFIX}Parameters"
PROVENANCE = f"{PREFIX}Provenance"
SHARE_DONE = f"{PREFIX}ShareDone"
THRESHOLD = f"{PREFIX}Threshold"
EVALUATION = f"{PREFIX}Evaluation"

#: Attribute of a segmentation: notes from reading its file.
FILE_NOTES = f"{PREFIX}FileNotes"

#: Attribute of a folder in the subject hierarchy: ``image``, ``classifier`` or ``target``.
FOLDER = f"{PREFIX}Folder"

#: Roles of node references. MRML writes them as ``role:ID;``, so a role has no colon.
IMAGE_ROLE = f"{PREFIX}image"
CHANNEL_ROLE = f"{PREFIX}channel"
ATTRIBUTION_ROLE = f"{PREFIX}attribution"
COLORS_ROLE = f"{PREFIX}colors"
