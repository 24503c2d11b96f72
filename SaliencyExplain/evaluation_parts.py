"""The parts of an evaluation, its file and its default limit, without torch."""

from __future__ import annotations

PARTS: tuple[str, ...] = ("faithfulness", "sanity", "stability", "agreement", "channels")
"""The parts of an evaluation."""

#: What was found, in the folder that an evaluation was written into.
EVALUATION_FILE = "evaluation.json"

#: The folder of a study's own evaluation in the study's folder, its file, and the number of the
#: file's form.
STUDY_EVALUATION_FOLDER = "evaluation"
STUDY_EVALUATION_FILE = "study-evaluation.json"
STUDY_EVALUATION_FORMAT = 4

#: Default limit of the forward passes of an evaluation. The full evaluation of a gradient or class
#: activation map in 3D costs about 500, of SmoothGrad with 25 samples 1,910; an occlusion map,
#: which is computed again for each change, gets the least that answers each question, five or six
#: times what the map costs.
AFFORDABLE_PASSES = 1000.0
