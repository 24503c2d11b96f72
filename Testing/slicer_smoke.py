"""Drives the module in the real application, from a phantom to a saved scene.

    SALIENCY_EXPLAIN_ENGINE=/path/.venv/bin/saliency-explain SALIENCY_EXPLAIN_SCREENSHOTS=shots \
        Slicer --no-splash --additional-module-paths scripted_module \
        --python-script Testing/slicer_smoke.py

Prints ``PASS name`` or ``FAIL name: why`` for each step, saves a screenshot of the main window
after each into the folder that ``SALIENCY_EXPLAIN_SCREENSHOTS`` names (without it: none), and
exits 0 only if all passed. Runs unattended on a virtual display in Slicer 5.10 and later; needs no
extension manager, no DICOM or CLI module and no SimpleITK in Slicer's Python. Widgets are
clicked and views get mouse events through their own interactors, as from a user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
import vtk

# Slicer puts a script's own folder on the path while it starts it.
from slicer_driver import (
    MODULE,
    Driver,
    check,
    drive,
    position_in_3d,
    say,
    send,
    slice_interactor,
    view_position,
)

CLASSIFIER = "phantom-3d-honest"

#: Parameters that make a method quick here; the others are quick by themselves.
QUICK = {
    "occlusion": {"window_mm": 30.0, "stride_mm": 20.0},
    "smoothgrad": {"samples": 4},
    "guided-smoothgrad": {"samples": 4},
    "integrated-gradients": {"steps": 6},
    "smoothgrad-ig": {"samples": 2, "steps": 4},
    "smoothgrad-ig-squared": {"samples": 2, "steps": 4},
    "guided-ig": {"steps": 6},
    "expected-gradients": {"samples": 4},
    "shapley": {"regions": "segments"},
    "kernel-shap": {"regions": "segments"},
    "lime": {"regions": "segments"},
    "xrai": {"steps": 4},
    "xrai-fast": {"steps": 4},
}
#: An occlusion of some thousand windows, to be cancelled.
LONG = {"occlusion": {"window_mm": 12.0, "stride_mm": 3.0}}


class Smoke(Driver):
    """The steps, in order."""

    def __init__(self, shots: Path | None) -> None:
        super().__init__(shots)
        self.volume: Any = None
        self.segmentation: Any = None
        self.centre = (0.0, 0.0, 0.0)
        self.predicted = ""

    def steps(self) -> Iterable[tuple[str, Callable[[], None]]]:
        yield "loads a phantom", self.load_phantom
        yield "opens the module", self.open_module
        yield "starts the engine", self.start_engine
        yield "opens a classifier", self.open_classifier
        yield "predicts", self.predict
        for method in self.panel.logic.methods:
            yield f"explains with {method['title']}", partial(self.explain, method)
        yield "shows another map", self.choose_map
        yield "clicks at the tumour", self.click_tumour
        yield "clicks at an empty place", self.click_empty
        yield "drags the point", self.drag_point
        yield "compares", self.compare
        yield "evaluates the map", self.evaluate_map
        yield "switches bands on", self.switch_bands
        yield "switches bands off", self.switch_bands_off
        yield "shows map and surfaces in 3D", self.show_in_3d
        yield "clicks in the 3D view", self.click_in_3d
        yield "cancels a long job", self.cancel_long_job
        if self.panel.connection.is_local:
            yield "loses the engine", self.lose_engine
            yield "starts the engine again", self.start_again
        yield "saves and reloads an MRB", self.save_and_reload
        yield "goes on with the reloaded scene", self.go_on
        yield "stops the engine", self.stop_engine

    def load_phantom(self) -> None:
        from SlicerSaliencyExplainLib.Samples import SAMPLES, load_sample

        from SaliencyExplain.scene.segmentations import masks_on_grid

        other, of_other = load_sample(slicer.mrmlScene, SAMPLES[1])
        slicer.mrmlScene.RemoveNode(of_other)
        other.SetName("background")
        self.volume, self.segmentation = load_sample(slicer.mrmlScene)
        inside = np.argwhere(masks_on_grid(self.segmentation, self.volume).masks[0])
        # A voxel of the mass: the middle of a bent mass could lie beside it.
        middle = inside[np.argmin(np.linalg.norm(inside - inside.mean(axis=0), axis=1))]
        to_ras = vtk.vtkMatrix4x4()
        self.volume.GetIJKToRASMatrix(to_ras)
        self.centre = to_ras.MultiplyPoint([*map(float, middle), 1.0])[:3]
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)

    def open_module(self) -> None:
        slicer.util.selectModule(MODULE)
        self.wait(lambda: slicer.util.selectedModule() == MODULE, "the module is shown")
        check(self.ui.startEngineButton.visible, "the panel has no button to start the engine")

    def start_engine(self) -> None:
        self.show_section("engine")
        self.press("startEngineButton")
        self.wait(lambda: self.panel.connection.state != "starting", "the engine answers")
        check(self.panel.connection.state == "ready", self.message("engine"))
        check("Ready" in self.ui.engineStatusLabel.text, self.ui.engineStatusLabel.text)

    def open_classifier(self) -> None:
        self.show_section("classifier")
        combo = self.ui.recentClassifiersComboBox
        entries = [combo.itemText(index) for index in range(combo.count)]
        (index,) = (i for i, text in enumerate(entries) if text == f"{CLASSIFIER} (demo)")
        combo.setCurrentIndex(index)
        combo.activated(index)
        self.press("openClassifierButton")
        self.wait(lambda: self.panel.logic.classifier is not None, "the classifier is open")
        self.check_no_message("classifier")
        classes = self.panel.logic.classifier.classes
        text = self.ui.classifierInfoLabel.text
        check(all(name in text for name in classes), "the panel does not name the classes")

    def predict(self) -> None:
        self.show_section("volumes")
        # There are two volumes of the same kind: the user says which.
        if self.sections.volumes.nodes() != [self.volume]:
            self.panel.parameters.images = [self.volume]
            self.settle(0.5)
        check(self.sections.volumes.nodes() == [self.volume], "the phantom was not chosen")
        self.press("predictButton")
        self.wait_for_job("volumes")
        table = self.ui.probabilitiesTable
        check(table.rowCount == len(self.panel.logic.classifier.classes), "a class has no row")
        self.predicted, probability = table.item(0, 0).text(), float(table.item(0, 2).text())
        check(self.predicted != "none", "the classifier does not see the mass")
        check(probability > 0.8, f"its probability of {self.predicted} is only {probability}")

    def explain(self, method: dict[str, Any]) -> None:
        self.show_section("explain")
        name = method["name"]
        self.sections.explain.methods.set_values({name: QUICK.get(name, {})})
        self.settle(0.1)
        if "segmentation" in method["requires"]:
            self.ui.segmentationSelector.setCurrentNode(self.segmentation)
        if "backgrounds" in method["requires"]:
            check(self.ui.backgroundsList.count == 1, "the other volume is not offered")
            self.ui.backgroundsList.item(0).setCheckState(qt.Qt.Checked)
        before = set(self.maps())
        self.press("explainButton")
        self.wait_for_job("explain")
        new = [node for node in self.maps() if node not in before]
        check(len(new) >= 1, "no map came")
        values = self.voxels(new[0])
        check(values.shape == self.voxels(self.volume).shape, "the map has another grid")
        check(bool(np.isfinite(values).all()), "the map has values that are not finite")
        check(float(np.ptp(values)) > 0, "the map is the same everywhere")
        shown = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        check(shown.GetForegroundVolumeID() is not None, "no map is laid over the volume")

    def choose_map(self) -> None:
        self.show_section("display")
        (occlusion,) = (node for node in self.maps() if "cclusion" in node.GetName())
        self.ui.mapSelector.setCurrentNode(occlusion)
        self.settle(0.3)
        for color in ("Red", "Green", "Yellow"):
            composite = slicer.app.layoutManager().sliceWidget(color).mrmlSliceCompositeNode()
            check(composite.GetForegroundVolumeID() == occlusion.GetID(), f"{color} shows another")

    def click_at(self, ras: tuple[float, float, float], color: str = "Red") -> None:
        """A left click at a place, through the interactor of a slice view."""
        from SaliencyExplain.scene.slice_layers import jump_to

        jump_to(slicer.mrmlScene, ras)
        self.settle(0.3)
        self.click(slice_interactor(color), partial(view_position, color, ras))

    def wait_for_answer(self, count: int) -> Any:
        """The newest answer of the history once it has so many, with its segments."""
        probe = self.sections.probe
        self.wait(
            lambda: len(probe.history.answers) >= count and not probe.busy, "the click is answered"
        )
        self.settle(1.5)
        self.check_no_message("probe")
        check(len(probe.history.answers) == count, "there are more answers than clicks")
        return probe.history.answers[-1]

    def click_tumour(self) -> None:
        self.show_section("probe")
        self.press("probeButton")
        self.click_at(self.centre)
        answer = self.wait_for_answer(1)
        away = np.linalg.norm(np.subtract(answer.point, self.centre))
        check(away < 3.0, f"the point is {away:.1f} mm from where the click was")
        check("tumour" in answer.segments, f"the segments there are {answer.segments}")
        index = answer.probe.classes.index(self.predicted)
        before = answer.probe.before[index]
        after = min(removal.probabilities[index] for removal in answer.removals)
        check(before > 0.9, f"the probability before is {before:.2f}")
        check(after < before - 0.3, f"removing the mass leaves {before:.2f} at {after:.2f}")
        check(len(answer.readings) == len(self.maps()), "not every map was read at the point")
        check(self.ui.probeTable.rowCount == len(answer.probe.classes), "the table is not whole")
        self.wait(
            lambda: any(
                r.radius_mm is None for r in self.sections.probe.history.answers[-1].removals
            ),
            "the whole segment was removed too",
        )

    def click_empty(self) -> None:
        bounds = [0.0] * 6
        self.volume.GetRASBounds(bounds)
        # Just inside of a corner in plane, at the height of the mass: air.
        corner = (bounds[1] - 8.0, bounds[2] + 8.0, self.centre[2])
        self.click_at(corner)
        answer = self.wait_for_answer(2)
        check(answer.segments == (), f"the segments there are {answer.segments}")
        index = answer.probe.classes.index(self.predicted)
        moves = [abs(r.probabilities[index] - answer.probe.before[index]) for r in answer.removals]
        check(max(moves) < 0.05, f"removing air moves the probability by {max(moves):.2f}")
        self.press("probeButton")
        check(not self.ui.probeButton.checked, "the toggle stays on")

    def drag_point(self) -> None:
        """Drags the point back into the mass; it is answered while and after it moves."""
        from SaliencyExplain.scene.slice_layers import jump_to

        answers = len(self.sections.probe.history.answers)
        point = self.sections.probe.point.place()
        jump_to(slicer.mrmlScene, self.centre)
        self.settle(0.3)
        x0, y0 = view_position("Red", point)
        x1, y1 = view_position("Red", self.centre)
        interactor = slice_interactor("Red")

        send(interactor, "MouseMoveEvent", x0, y0)
        send(interactor, "LeftButtonPressEvent", x0, y0)
        for share in np.linspace(0.1, 1.0, 10):
            x, y = round(x0 + share * (x1 - x0)), round(y0 + share * (y1 - y0))
            send(interactor, "MouseMoveEvent", x, y)
            self.settle(0.1)
        send(interactor, "LeftButtonReleaseEvent", x1, y1)
        answer = self.wait_for_answer(answers + 1)
        away = np.linalg.norm(np.subtract(answer.point, self.centre))
        check(away < 4.0, f"the point was dropped {away:.1f} mm from the mass's middle")
        check("tumour" in answer.segments, f"the segments there are {answer.segments}")

    def compare(self) -> None:
        self.show_section("compare")
        self.ui.segmentationSelector.setCurrentNode(self.segmentation)
        self.press("compareButton")
        self.wait_for_job("compare")
        rows = {row["method"]: row for row in self.sections.compare._result.rows}
        check({"random", "centre"} <= set(rows), f"the rows are {sorted(rows)}")
        check(len(rows) == len(self.maps()) + 2, "a map has no row")
        check(0.4 < rows["random"]["auroc"] < 0.6, "random is not chance")
        occlusion = next(row for name, row in rows.items() if "cclusion" in name)
        check(occlusion["auroc"] > 0.9, f"occlusion has an AUROC of {occlusion['auroc']}")
        check(self.ui.comparisonTable.rowCount == len(rows), "the table is not whole")
        tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
        self.press("exportComparisonButton")
        check(len(slicer.util.getNodesByClass("vtkMRMLTableNode")) > len(tables), "no table came")
        check(bool(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")), "no chart came")

    def evaluate_map(self) -> None:
        """Evaluates the Grad-CAM map, with the least cost."""
        node = next(node for node in self.maps() if node.GetName().startswith("Grad-CAM at"))
        self.show_section("display")
        self.ui.mapSelector.setCurrentNode(node)
        check(
            self.ui.evaluationHintLabel.text == "not evaluated yet",
            self.ui.evaluationHintLabel.text,
        )
        self.show_section("evaluation")
        check(self.ui.evaluationMapSelector.currentNode() is node, "another map would be evaluated")
        self.ui.evaluationBudgetSpinBox.value = 1
        self.press("evaluationButton")
        self.wait_for_job("evaluation")
        table = self.ui.evaluationTable
        answers = {
            table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)
        }
        check(len(answers) == 4, f"the answers are {answers}")
        check("yes" in answers["depends on the weights"], f"the answers are {answers}")
        check(self.ui.evaluationCardLabel.visible, "there is no trust card")
        check(
            "depends on the weights: yes" in self.ui.evaluationHintLabel.text,
            "the line has no words",
        )

    def switch_bands(self) -> None:
        self.show_section("display")
        self.ui.bandsCheckBox.click()
        self.settle(0.5)
        bands = self.band_segmentations()
        check(len(bands) == 1, f"{len(bands)} segmentations of bands came instead of one")
        check(bands[0].GetSegmentation().GetNumberOfSegments() >= 4, "there are too few bands")
        check(self.bands_are_shown(), "the bands are not shown")
        self.check_no_message("display")

    def switch_bands_off(self) -> None:
        self.ui.bandsCheckBox.click()
        self.settle(0.3)
        check(not self.bands_are_shown(), "the bands are still shown")

    def bands_are_shown(self) -> bool:
        """As a label map in the slice views, or as segments."""
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        label_map = slicer.mrmlScene.GetNodeByID(composite.GetLabelVolumeID() or "")
        segments = [node.GetDisplayNode().GetVisibility() for node in self.band_segmentations()]
        return label_map is not None or any(segments)

    def band_segmentations(self) -> list[Any]:
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        return [node for node in nodes if node.GetAttribute("SaliencyExplain.Kind")]

    def show_in_3d(self) -> None:
        # A map that lets the tumour be seen in it.
        self.choose_map()
        for name in ("volumeRenderingCheckBox", "surfacesCheckBox", "outlineCheckBox"):
            box = getattr(self.ui, name)
            check(box.enabled, f"{name} is disabled: {box.toolTip}")
            if not box.checked:
                box.click()
            self.settle(0.3)
        self.check_no_message("display")
        slicer.app.layoutManager().threeDWidget(0).threeDView().resetFocalPoint()
        self.settle(1.0)

    def click_in_3d(self) -> None:
        """A click at the mass in the 3D view, where its surface is shown."""
        self.show_section("probe")
        answers = len(self.sections.probe.history.answers)
        view = slicer.app.layoutManager().threeDWidget(0).threeDView()
        camera = view.cameraNode()
        camera.SetFocalPoint(self.centre)
        camera.ResetClippingRange()
        self.settle(0.5)
        self.press("probeButton")
        self.settle(0.5)
        interactor = view.interactorStyle().GetInteractor()
        self.click(interactor, partial(position_in_3d, view, self.centre))
        answer = self.wait_for_answer(answers + 1)
        eye = np.array(camera.GetPosition())
        ray = (np.array(self.centre) - eye) / np.linalg.norm(np.array(self.centre) - eye)
        away = np.linalg.norm(np.cross(np.array(answer.point) - eye, ray))
        check(away < 4.0, f"the point is {away:.1f} mm from the line of sight")
        self.press("probeButton")

    def cancel_long_job(self) -> None:
        self.show_section("explain")
        self.sections.explain.methods.set_values(LONG)
        self.press("explainButton")
        self.settle(2.0)
        check(self.sections.explain.busy, "the long job was over before it could be cancelled")
        started = time.monotonic()
        self.press("explainCancelButton")
        self.wait(lambda: not self.sections.explain.busy, "the job has stopped", 30)
        say(f"     cancelled within {time.monotonic() - started:.1f} s")
        check("Cancelled" in self.message("explain"), f"it says: {self.message('explain')}")
        check(self.ui.explainButton.enabled, "nothing can be explained after that")

    def lose_engine(self) -> None:
        self.show_section("engine")
        nodes = slicer.mrmlScene.GetNumberOfNodes()
        self.panel.connection._process._process.kill()
        self.wait(lambda: self.panel.connection.state == "lost", "the loss is noticed", 30)
        line = self.message("engine")
        check(bool(line) and "\n" not in line, f"the panel says: {line!r}")
        check(slicer.mrmlScene.GetNumberOfNodes() == nodes, "nodes were lost with the engine")
        check(not self.ui.predictButton.enabled, "Predict can be pressed without an engine")

    def start_again(self) -> None:
        self.start_engine()
        self.wait(lambda: self.panel.logic.classifier is not None, "the classifier is open again")
        self.predict()

    def save_and_reload(self) -> None:
        maps_before = {node.GetName(): self.voxels(node) for node in self.maps()}
        attributes = {node.GetName(): saliency_attributes(node) for node in self.maps()}
        names = self.volume.GetName(), self.segmentation.GetName()
        place = self.sections.probe.point.place()
        path = self.folder / "smoke.mrb"
        check(slicer.util.saveScene(str(path)), "the scene was not saved")
        slicer.mrmlScene.Clear(0)
        self.settle(0.5)
        check(self.maps() == [], "the scene was not cleared")
        check(not self.ui.predictButton.enabled, "Predict can be pressed without a volume")
        slicer.util.loadScene(str(path))
        self.settle(1.0)
        again = {node.GetName(): node for node in self.maps()}
        check(set(again) == set(maps_before), f"the maps are {sorted(again)}")
        for name, node in again.items():
            check(np.array_equal(self.voxels(node), maps_before[name]), f"{name} has changed")
            check(saliency_attributes(node) == attributes[name], f"{name} has lost its provenance")
            colors = node.GetDisplayNode().GetColorNode()
            check(colors is not None, f"{name} has lost its colours")
        self.volume = slicer.mrmlScene.GetFirstNodeByName(names[0])
        self.segmentation = slicer.mrmlScene.GetFirstNodeByName(names[1])
        moved = np.linalg.norm(np.subtract(self.sections.probe.point.place(), place))
        check(moved < 0.1, f"the point has moved by {moved:.1f} mm")

    def go_on(self) -> None:
        """The panel works with the reloaded scene, with the same engine."""
        self.predict()
        self.ui.segmentationSelector.setCurrentNode(self.segmentation)
        self.press("compareButton")
        self.wait_for_job("compare")

    def stop_engine(self) -> None:
        process = self.panel.connection._process
        self.press("stopEngineButton")
        if process is not None:
            self.wait(lambda: not process.alive, "the engine has ended", 30)
        check(self.panel.connection.state == "off", "the panel does not say that it is off")

    def maps(self) -> list[Any]:
        from SaliencyExplain.scene.attributions import attributions_of

        return list(attributions_of(slicer.mrmlScene))

    def voxels(self, node: Any) -> np.ndarray:
        return np.array(slicer.util.arrayFromVolume(node))


def saliency_attributes(node: Any) -> dict[str, str]:
    names = [name for name in node.GetAttributeNames() if name.startswith("SaliencyExplain.")]
    return {name: node.GetAttribute(name) for name in names}


drive(Smoke)
