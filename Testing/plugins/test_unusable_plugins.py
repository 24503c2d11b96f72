"""A plugin that cannot be used is named, and stops nothing else."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from SaliencyExplain import plugins
from SaliencyExplain.attribution.registry import find_method, methods
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.plugins import IMAGE_READERS, METHODS, STUDY_LAYOUTS, plugin_packages
from SaliencyExplain.studies.discovery import discover
from Testing.conftest import PROJECT

METHOD = """
from dataclasses import dataclass
from typing import ClassVar
from SaliencyExplain.attribution.method import Method
from SaliencyExplain.specification.parameters import parameter

@dataclass(frozen=True)
class {kind}(Method):
    name: ClassVar[str] = "{name}"
    title: ClassVar[str] = "Title"
    source: ClassVar[str] = "Source"
    signed: ClassVar[bool] = True
    family: ClassVar[str] = "{family}"
    {parameters}

    def attribute(self, task): return {{}}
    def forward_passes(self, task): return 1
"""


def method(name: str, kind: str, family: str = "gradient", parameters: str = "") -> str:
    return METHOD.format(name=name, kind=kind, family=family, parameters=parameters)


def refusal(name: str) -> str:
    with pytest.raises(InputError) as refused:
        find_method(name)
    assert refused.value.code is ErrorCode.PLUGIN
    return str(refused.value)


#: Modules of a package by their names, each with one class that is no method to be used.
WRONG = {
    "fails": "import nothing_of_this_name",
    "leaves": "raise SystemExit(3)",
    "unfinished": "from SaliencyExplain.attribution.method import Method as Kind",
    "number": "Kind = 3",
    "gradcam": method("gradcam", "Kind"),
    "renamed": method("another", "Kind"),
    "sameclass": method("sameclass", "GradCAM") + "\nKind = GradCAM",
    "public": method("public", "Probe") + "\nKind = Probe",
    "nofamily": method("nofamily", "NoFamily", "magic") + "\nKind = NoFamily",
    "control": method("control", "Control", "control") + "\nKind = Control",
    "undescribed": method("undescribed", "Undescribed", parameters="window: int = 3")
    + "\nKind = Undescribed",
}


def test_methods_that_cannot_be_used_are_left_out_and_named(install, caplog):
    built_in = set(methods())
    install(
        "some-methods",
        {METHODS: {name: f"module_{name}:Kind" for name in WRONG} | {"good": "module_good:Good"}},
        {f"module_{name}": text for name, text in WRONG.items()}
        | {"module_good": method("good", "Good")},
    )
    with caplog.at_level("WARNING"):
        assert set(methods()) == built_in | {"good"}
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert find_method("good").title == "Title"
    assert find_method("gradcam").__module__.startswith("SaliencyExplain.")
    for name in WRONG:
        assert f"'{name}' of the package some-methods 1.0" in logged
        if name != "gradcam":
            assert f"'{name}' of the package some-methods 1.0" in refusal(name)
    assert "nothing_of_this_name" in refusal("fails")
    assert plugin_packages() == {"some-methods": "1.0"}


def test_of_two_packages_with_the_same_method_neither_is_used(install):
    for package in ("first", "second"):
        install(
            package,
            {METHODS: {"twice": f"of_{package}:Twice"}},
            {f"of_{package}": method("twice", "Twice")},
        )
    assert "twice" not in methods()
    assert all(f"{package} 1.0" in refusal("twice") for package in ("first", "second"))


READER = """
import numpy as np
from SaliencyExplain.images.image_reader import ImageReader
from SaliencyExplain.images.volume import Volume

class Reader(ImageReader):
    def read(self, path, *, several=False, colour=False):
        return {what}
"""


def test_readers_that_cannot_be_used_cost_files_of_their_suffix_alone(install, tmp_path, caplog):
    values = "np.arange(60.0).reshape(1, 3, 4, 5)"
    returned = {
        ".list": f"{values}.tolist()",
        ".text": "Volume(np.array([[['a', 'b'], ['c', 'd']]]), np.eye(4))",
        ".flat": f"Volume({values}[0, 0], np.eye(4))",
        ".layers": f"Volume(np.concatenate([{values}] * 2), np.eye(4))",
        ".nowhere": f"Volume({values}, np.zeros((4, 4)))",
        ".three": f"Volume({values}, np.eye(3))",
        ".good": f"Volume({values}, np.eye(4))",
        ".nii.gz": f"Volume({values}, np.eye(4))",
        "word": f"Volume({values}, np.eye(4))",
    }
    modules = {
        f"reads_{suffix.replace('.', '_')}": READER.format(what=what)
        for suffix, what in returned.items()
    }
    targets = {suffix: f"reads_{suffix.replace('.', '_')}:Reader" for suffix in returned}
    targets |= {".absent": "reads_nothing:Reader", ".wrong": "reads__good:np"}
    install("some-readers", {IMAGE_READERS: targets}, modules)
    codes = {
        **dict.fromkeys((".absent", ".wrong", ".list", ".text", ".flat", ".three"), "PLUGIN"),
        ".layers": "IMAGE_AMBIGUOUS",
        ".nowhere": "IMAGE_GEOMETRY",
        "word": "FILE_FORMAT",
    }
    for suffix, code in codes.items():
        (tmp_path / f"a{suffix}").write_bytes(b"1")
        with pytest.raises(InputError) as refused:
            read_image(tmp_path / f"a{suffix}")
        assert refused.value.code is ErrorCode[code], suffix
        if code == "PLUGIN":
            assert f"'{suffix}' of the package some-readers 1.0" in str(refused.value)
        else:
            assert f"a{suffix}" in str(refused.value)
    (tmp_path / "a.good").write_bytes(b"1")
    assert read_image(tmp_path / "a.good").shape == (1, 3, 4, 5)
    other = np.random.default_rng(0).normal(size=(4, 4, 4))
    nibabel.save(nibabel.Nifti1Image(other, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_image(tmp_path / "a.nii.gz")[0].numpy(), other, rtol=1e-6)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "'.nii.gz' of the package some-readers 1.0" in logged
    assert "'word' of the package some-readers 1.0" in logged


def test_files_of_a_plugins_suffix_are_images_of_a_study(install, tmp_path):
    what = "Volume(np.load(path)[np.newaxis], np.eye(4))"
    targets = {".vox": "reads_vox:Reader", ".npy": "reads_vox:Reader"}
    install("vox", {IMAGE_READERS: targets}, {"reads_vox": READER.format(what=what)})
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("P1_image.vox", "P1_mask.vox", "P2_image.vox", "table.npy"):
        (folder / name).write_bytes(b"1")
    cases = discover(folder)
    assert [(case.case, case.segmentation and case.segmentation.name) for case in cases] == [
        ("P1", "P1_mask.vox"),
        ("P2", None),
    ]
    assert [one.files for one in cases.left_out] == [("table.npy",)]


LAYOUTS = """
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies.case import Case

def knows(folder):
    return [Case("a/b", ((None, folder.files[0]),))]
def outside(folder):
    return [Case("P7", ((None, folder.path.parent / "elsewhere.nii.gz"),))]
def empty(folder): return [Case("P7", ())]
def refuses(folder): raise InputError(ErrorCode.LABELS, f"{folder.path}: P8 has no label.")
def crashes(folder): return {}["JaneDoe"]
def other(folder): return None
def number(folder): return 3
"""


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("P1_image.nii.gz", "P1_mask.nii.gz"):
        (folder / name).write_bytes(b"1")
    return folder


def test_layouts_that_cannot_be_used_are_notes(install, study):
    wrong = {"crashes": "layouts:crashes", "number": "layouts:number", "gone": "layouts:gone"}
    entries = {"other": "layouts:other", "absent": "no_module:function", **wrong}
    install("some-layouts", {STUDY_LAYOUTS: entries}, {"layouts": LAYOUTS})
    cases = discover(study)
    assert [case.case for case in cases] == ["P1"]
    assert len(cases.notes) == 4
    for name in ("absent", *wrong):
        assert any(f"'{name}' of the package some-layouts 1.0" in note for note in cases.notes)
    assert not any("JaneDoe" in note for note in cases.notes)


@pytest.mark.parametrize(
    ("names", "code", "named"),
    [
        (("knows", "knows2"), ErrorCode.CASES_LAYOUT, "'knows2' of some-layouts 1.0"),
        (("outside",), ErrorCode.CASES_LAYOUT, "elsewhere.nii.gz"),
        (("empty",), ErrorCode.CASES_LAYOUT, "P7"),
        (("refuses",), ErrorCode.LABELS, "P8"),
    ],
)
def test_folders_are_refused_by_name(install, study, names, code, named):
    entries = {name: f"layouts:{name.strip('2')}" for name in names}
    install("some-layouts", {STUDY_LAYOUTS: entries}, {"layouts": LAYOUTS})
    with pytest.raises(InputError) as refused:
        discover(study)
    assert refused.value.code is code
    assert named in str(refused.value)


def test_a_layout_that_knows_the_folder_is_taken_before_the_general_ones(install, study):
    entries = {name: f"layouts:{name}" for name in ("knows", "refuses", "crashes")}
    install("some-layouts", {STUDY_LAYOUTS: entries}, {"layouts": LAYOUTS})
    cases = discover(study)
    assert [case.case for case in cases] == ["a_b"]
    assert len(cases.notes) == 1


def test_the_plugins_of_a_checkout_are_those_of_its_own_project_file(
    install, site, tmp_path, monkeypatch
):
    """Metadata may be of another version, or none; a wheel has no project file."""
    old = {IMAGE_READERS: {".old": "old:Reader"}}
    install("Saliency.Explain", old, {})
    assert set(plugins.plugins(IMAGE_READERS)) == {".mat"}
    assert plugins.plugin_packages() == {}
    package = tmp_path / "SaliencyExplain"
    package.mkdir()
    monkeypatch.setattr(plugins, "__file__", str(package / "plugins.py"))
    for cache in (plugins.plugins, plugins._own_entry_points):
        cache.cache_clear()
    assert set(plugins.plugins(IMAGE_READERS)) >= {".old"}
    assert plugins.plugin_packages() == {}
    (package / "pyproject.toml").write_bytes((PROJECT / "pyproject.toml").read_bytes())
    for cache in (plugins.plugins, plugins._own_entry_points):
        cache.cache_clear()
    assert set(plugins.plugins(IMAGE_READERS)) == {".mat"}
