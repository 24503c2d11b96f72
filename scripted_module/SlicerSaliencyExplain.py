"""Saliency Explain: which voxels made a classifier say so, and are they the tumour?"""

import logging
import os
import sys
from typing import Annotated, Union

import qt
import slicer
import vtk
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLVolumeNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

OLDEST_PYTHON = (3, 10)
MODIFIED = vtk.vtkCommand.ModifiedEvent
TOO_OLD = sys.version_info < OLDEST_PYTHON


def _find_package():
    """Lets the package be imported: it lies beside this file, in a checkout one folder up."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (here, os.path.dirname(here)):
        if os.path.isdir(os.path.join(folder, "SaliencyExplain")):
            # Last: nothing else that lies there may hide a module of Slicer.
            if folder not in sys.path:
                sys.path.append(folder)
            return


_find_package()

if TOO_OLD:
    SaliencyExplainLogic = object
else:
    from SlicerSaliencyExplainLib.Logic import SaliencyExplainLogic


#
# SlicerSaliencyExplain
#


class SlicerSaliencyExplain(ScriptedLoadableModule):
    """What Slicer's module selector knows of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Saliency Explain")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = []
        self.parent.contributors = ["The SaliencyExplain contributors"]
        self.parent.helpText = _("""
Which voxels made a classifier say so, and are they the tumour? Open a classifier (a MONAI bundle,
TorchScript or torch.export file), choose a volume, read the class probabilities, compute
attribution maps over the anatomy, click on a spot to learn what it contributes, and compare the
maps with a segmentation, beside what chance gives.<br>
A map shows what the classifier used, not what is true of the patient. Not for clinical use.
""")
        self.parent.acknowledgementText = _("""
The attribution methods follow the papers that the panel names in their tooltips. Built on MONAI,
PyTorch, VTK and 3D Slicer.
""")
        slicer.app.connect("startupCompleted()", registerSampleData)


#
# Sample data
#


def registerSampleData():
    """Adds the phantoms that lie beside this file to the module Sample Data, where there is one."""
    if TOO_OLD:
        return
    try:
        import SampleData
    except ImportError:
        return
    from SlicerSaliencyExplainLib.Samples import CATEGORY, SAMPLES

    # Newer than Slicer 5.10; without it the category's name is its title.
    if hasattr(SampleData.SampleDataLogic, "registerCustomSampleDataCategory"):
        SampleData.SampleDataLogic.registerCustomSampleDataCategory(
            CATEGORY, title=_("Saliency Explain")
        )
    for sample in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            thumbnailFileName=str(sample.thumbnail),
            # They lie on this disk: nothing is downloaded.
            uris=[path.as_uri() for path in sample.files],
            # Under names of their own in the cache, with checksums, or an older version is taken.
            fileNames=[f"{CATEGORY}-{path.name}" for path in sample.files],
            checksums=[f"SHA256:{digest}" for digest in sample.digests()],
            nodeNames=[sample.name, f"{sample.name} segmentation"],
            loadFileTypes=["VolumeFile", "SegmentationFile"],
        )


#
# SlicerSaliencyExplainParameterNode
#


@parameterNodeWrapper
class SlicerSaliencyExplainParameterNode:
    """All choices of the panel that belong to a scene, so that they are saved with it.

    Whether a classifier's own code may run is not among them: a scene comes from anywhere.

    classifierPath - File or folder of the classifier.
    images - A volume for each channel of the classifier.
    target - The class that is explained, or "predicted".
    methods - Chosen methods with their parameters, as JSON.
    seed - Random seed.
    budgetSeconds - Time after which an explanation stops; 0: never.
    radii - Radii in mm for clicks.
    fill - What stands in a removed place.
    probeSegments - Whether segments that are clicked are removed as a whole, too.
    point - The clicked point.
    segmentation - What maps are compared with.
    displayedMap - The map that is shown.
    opacity - Of the shown map.
    threshold - Share of the map's window below which it is not drawn.
    bands, outline, linkViews, volumeRendering, surfaces - How it is shown.
    studyFolder, studyOut, studyTarget - What a study works on.
    """

    classifierPath: str = ""
    images: list[vtkMRMLVolumeNode]
    target: str = "predicted"
    methods: str = '{"occlusion": {}}'
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    budgetSeconds: Annotated[float, WithinRange(0, 86400)] = 0.0
    radii: str = "4, 8, 16"
    fill: str = "mean"
    probeSegments: bool = True
    point: vtkMRMLMarkupsFiducialNode
    segmentation: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    displayedMap: vtkMRMLScalarVolumeNode
    opacity: Annotated[float, WithinRange(0, 1)] = 0.7
    threshold: Annotated[float, WithinRange(0, 0.99)] = 0.15
    bands: bool = False
    outline: bool = True
    linkViews: bool = False
    volumeRendering: bool = False
    surfaces: bool = False
    studyFolder: str = ""
    studyOut: str = ""
    studyTarget: str = "predicted"


#
# SlicerSaliencyExplainWidget
#


class SlicerSaliencyExplainWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel in Slicer: its sections are in SlicerSaliencyExplainLib."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        """Called when the user opens the module the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        if TOO_OLD:
            label = qt.QLabel(
                _(
                    "Saliency Explain needs Python {needed} or newer; this Slicer has {found}. "
                    "Use Slicer 5.10 or newer."
                ).format(
                    needed=".".join(map(str, OLDEST_PYTHON)),
                    found=".".join(map(str, sys.version_info[:2])),
                )
            )
            label.wordWrap = True
            self.layout.addWidget(label)
            return

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SlicerSaliencyExplain.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        from SlicerSaliencyExplainLib.Panel import Panel, default_home

        self.logic = SlicerSaliencyExplainLogic()
        self.panel = Panel(self.ui, self.logic, default_home())

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodes)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodes)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """Called when the application closes or the module is reloaded."""
        self.setParameterNode(None)
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()

    def enter(self):
        """Called each time the user opens this module."""
        if self.panel is not None:
            self.initializeParameterNode()

    def exit(self):
        """Called each time the user opens a different module.

        Jobs go on and their maps appear; only clicks mean again what they meant before.
        """
        if self.panel is not None:
            self.ui.probeButton.checked = False

    def onSceneStartClose(self, caller, event):
        """Called just before the scene is closed."""
        self.setParameterNode(None)
        self.panel.scene_closed()

    def onSceneEndClose(self, caller, event):
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()
        self.panel.refresh()

    def onSceneEndImport(self, caller, event):
        """Called when a scene was loaded: it brings its own parameter node."""
        self.initializeParameterNode()
        self.panel.nodes_changed()

    def onNodes(self, caller, event):
        """Called when a node was added or removed; many come in a row."""
        if not caller.IsBatchProcessing():
            self.panel.nodes_due = True

    def initializeParameterNode(self):
        """Ensures that the parameter node exists and is observed."""
        self.setParameterNode(self.logic.getParameterNode())
        self.panel.sections.volumes.guess()

    def setParameterNode(self, inputParameterNode):
        """Goes over to another parameter node; the panel shows its values at once."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, MODIFIED, self.onParameters)
        self._parameterNode = inputParameterNode
        self._parameterNodeGuiTag = None
        if self.panel is not None:
            self.panel.set_parameters(inputParameterNode)
        if inputParameterNode:
            # In the .ui file each widget that needs it has the property "SlicerParameterName".
            self._parameterNodeGuiTag = inputParameterNode.connectGui(self.ui)
            self.addObserver(inputParameterNode, MODIFIED, self.onParameters)

    def onParameters(self, caller, event):
        """Called when the parameter node was changed, by the panel or by a script."""
        self.panel.parameters_due = True


#
# SlicerSaliencyExplainLogic
#


class SlicerSaliencyExplainLogic(ScriptedLoadableModuleLogic, SaliencyExplainLogic):
    """The logic with Slicer's scene and a parameter node in it."""

    def __init__(self, engine=None, scene=None):
        ScriptedLoadableModuleLogic.__init__(self)
        SaliencyExplainLogic.__init__(self, engine, scene or slicer.mrmlScene)

    def getParameterNode(self):
        """The module's parameter node, made where there is none."""
        return SlicerSaliencyExplainParameterNode(super().getParameterNode())


#
# SlicerSaliencyExplainTest
#


class SlicerSaliencyExplainTest(ScriptedLoadableModuleTest):
    """The self-test: a phantom from prediction to click, with a real engine."""

    def setUp(self):
        """Begins with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Runs all tests."""
        self.setUp()
        self.test_phantom()

    def test_phantom(self):
        """Predicts, explains, clicks and compares; needs an engine that the settings name."""
        from SlicerSaliencyExplainLib.ClassifierSection import demo_classifiers
        from SlicerSaliencyExplainLib.Samples import load_sample

        widget = slicer.modules.slicersaliencyexplain.widgetRepresentation().self()
        panel = widget.panel
        reason = panel.sections.engine.why_not_startable()
        if reason:
            logging.warning("Skipped: %s", reason)
            self.delayDisplay(reason)
            return

        self.delayDisplay("Start the engine and open a demo classifier")
        volume, segmentation = load_sample(slicer.mrmlScene)
        panel.sections.engine.start()
        self._wait(lambda: panel.connection.state == "ready", 120)
        opened = []
        path = next(path for path in demo_classifiers() if "3d-honest" in path)
        panel.logic.open_classifier(path, done=opened.append)
        self._wait(lambda: opened, 120)

        self.delayDisplay("Predict")
        answers = []
        panel.logic.predict([volume], done=answers.append).wait(120, slicer.app.processEvents)
        probabilities = dict(zip(answers[0].classes, answers[0].probabilities, strict=True))
        self.assertAlmostEqual(sum(probabilities.values()), 1.0, places=3)
        predicted = max(probabilities, key=probabilities.get)
        self.assertNotEqual(predicted, "no tumour")

        self.delayDisplay("Explain")
        maps = []
        job = panel.logic.explain([volume], {"gradcam": {}}, shown=maps.append)
        job.wait(300, slicer.app.processEvents)
        self.assertEqual(len(maps[-1]), 1)

        self.delayDisplay("Click")
        center = [0.0] * 3
        segmentation.GetSegmentCenterRAS(segmentation.GetSegmentation().GetNthSegmentID(0), center)
        clicks = []
        job = panel.logic.probe([volume], tuple(center), (8.0, 16.0), done=clicks.append)
        job.wait(120, slicer.app.processEvents)
        index = clicks[0].classes.index(predicted)
        after = clicks[0].removals[-1].probabilities[index]
        self.assertLess(after, clicks[0].before[index])

        self.delayDisplay("Compare")
        compared = []
        job = panel.logic.compare(volume, maps[-1], segmentation, done=compared.append)
        job.wait(120, slicer.app.processEvents)
        methods = {row["method"] for row in compared[0].rows}
        self.assertTrue({"random", "centre"} < methods)
        self.delayDisplay("Test passed")

    def _wait(self, ready, seconds):
        import time

        end = time.monotonic() + seconds
        while not ready():
            self.assertLess(time.monotonic(), end, "The engine did not answer in time.")
            slicer.app.processEvents()
            time.sleep(0.01)
