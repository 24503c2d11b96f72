"""The client's side runs where 3D Slicer's own Python has neither torch nor the server's needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from Testing.conftest import PROJECT

pytestmark = pytest.mark.server

CODE = """
import sys

ALLOWED = {"numpy", "requests", "urllib3", "certifi", "idna", "charset_normalizer", "chardet",
           "SaliencyExplain", "vtk", "slicer", "vtkmodules"}
KNOWN = set(sys.stdlib_module_names)


class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        # What requests and numpy look for of themselves and do without.
        if top not in ALLOWED | KNOWN and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Nothing())
import SaliencyExplain.engine.client.http_client
import SaliencyExplain.engine.interface
import SaliencyExplain.engine.client.engine_process
import SaliencyExplain.engine.wire.wire_volumes
import numpy
from SaliencyExplain.engine.wire.volume_format import decode, encode

from SaliencyExplain.voxel_volume import Volume

volume = Volume(numpy.ones((2, 3, 4), numpy.uint8), numpy.eye(4))
assert decode(encode(volume), largest=100).hash == volume.hash
try:
    SaliencyExplain.engine.client.http_client.RemoteEngine("http://127.0.0.1:1", "x" * 40).about()
except SaliencyExplain.errors.EngineLostError:
    pass
else:
    raise AssertionError
heavy = {"torch", "monai", "scipy", "fastapi", "starlette", "uvicorn", "pydantic", "typer",
         "SimpleITK", "psutil"}
print(sorted(heavy & set(sys.modules)))
"""


def test_client_needs_numpy_and_requests_alone():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_of_serve_imports_no_torch():
    code = (
        "import sys\n"
        "from SaliencyExplain.cli.main import application\n"
        "from SaliencyExplain.cli.messages import run\n"
        "assert run(application, ['serve', '--help']) == 0\n"
        "assert run(application, ['serve', '--tls-key', 'x']) == 2\n"
        "heavy = {'torch', 'monai', 'numpy', 'fastapi', 'uvicorn'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert "--end-with-stdin" in done.stdout
    assert done.stdout.strip().endswith("[]")
