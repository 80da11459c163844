"""One binary for every TensorRT: the shells compile with its headers of each version, which agree on all that they use.

The headers of one version come from a package; those of others are tested where TENSORRT_HEADERS names their folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tensorrt_calls import available

from plugins.build import ROOT
from plugins.testing import tensorrt_headers as headers

COMPILER = os.environ.get("CXX") or shutil.which("c++") or "g++"
# JetPack 6, before and after NvInferPluginBase.h, JetPack 7, what PyPI's kernel-lens carries, JetPack 7.2, TensorRT 11
VERSIONS = ("10.3", "10.8", "10.13", "10.14", "10.16", "11.0", "11.1")

# What crosses the boundary. The same numbers came of the headers of 10.0, 10.3, 10.8, 10.13, 10.14, 10.16, 11.0, 11.1.
BOUNDARY = """
PluginField 24
PluginFieldCollection 16
Dims 72
DimsExprs 72
PluginTensorDesc 88
DynamicPluginTensorDesc 304
InterfaceInfo 16
IPluginCreatorV3One::getInterfaceInfo 1
IPluginCreatorV3One::createPlugin 4
IPluginCreatorV3One::getFieldNames 5
IPluginCreatorV3One::getPluginName 6
IPluginCreatorV3One::getPluginVersion 7
IPluginCreatorV3One::getPluginNamespace 8
IPluginV3::getInterfaceInfo 1
IPluginV3::getCapabilityInterface 4
IPluginV3::clone 5
IPluginV3OneCore::getPluginName 4
IPluginV3OneCore::getPluginVersion 5
IPluginV3OneCore::getPluginNamespace 6
IPluginV3OneBuild::configurePlugin 4
IPluginV3OneBuild::getOutputDataTypes 5
IPluginV3OneBuild::getOutputShapes 6
IPluginV3OneBuild::supportsFormatCombination 7
IPluginV3OneBuild::getNbOutputs 8
IPluginV3OneBuild::getWorkspaceSize 9
IPluginV3OneBuild::getValidTactics 10
IPluginV3OneBuild::getNbTactics 11
IPluginV3OneBuild::getTimingCacheID 12
IPluginV3OneBuild::getFormatCombinationLimit 13
IPluginV3OneBuild::getMetadataString 14
IPluginV3OneRuntime::setTactic 4
IPluginV3OneRuntime::onShapeChange 5
IPluginV3OneRuntime::enqueue 6
IPluginV3OneRuntime::attachToContext 7
IPluginV3OneRuntime::getFieldsToSerialize 8
IPluginResourceContext::getErrorRecorder 1
IErrorRecorder::reportError 9
IErrorRecorder::incRefCount 10
IErrorRecorder::decRefCount 11
apiv::VExprBuilder::constant 2
apiv::VExprBuilder::operation 3
apiv::VDimensionExpr::isConstant 2
apiv::VDimensionExpr::getConstantValue 3
"""


def folder_of(version: str) -> Path:
    found: dict[str, Path] = available(headers.folders)
    if version not in found:
        pytest.skip(f"no package has the headers of TensorRT {version}: name their folder in {headers.VARIABLE}")
    return found[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_shells_compile(version: str) -> None:
    flags = headers.flags(folder_of(version))
    for name in headers.SHELLS:
        command = [COMPILER, "-fsyntax-only", *flags, str(headers.source(name))]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_the_boundary_has_the_same_sizes_and_slots(version: str, tmp_path: Path) -> None:
    """Those that a binary of any version was compiled with."""
    program = tmp_path / "slots"
    source = ROOT / "plugins" / "testing" / "tensorrt_slots.cpp"
    subprocess.run([COMPILER, *headers.flags(folder_of(version)), str(source), "-o", str(program)], check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == BOUNDARY.lstrip()


def test_the_shells_name_nothing_that_differs_between_versions() -> None:
    """ILoggerFinder's slots moved at 11.0, and names of versioned namespaces come and go."""
    for name in (*headers.SHELLS, "plugin", "creator"):
        path = headers.source(name)
        text = path.read_text() if path.exists() else path.with_suffix(".h").read_text()
        code = "\n".join(line.split("//")[0] for line in text.splitlines())
        assert "ILoggerFinder" not in code and "v_1_0" not in code and "v_2_0" not in code, name
