"""The pins satisfy the bounds on every Python, and name no place to load from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jaxrl

ROOT = Path(__file__).parents[1]


def pins(python, platform="linux"):
    """Version by name of what requirements.lock installs there; no name twice."""
    found = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(line)
        where = {"python_version": python, "sys_platform": platform}
        if requirement.marker is None or requirement.marker.evaluate(where):
            name = canonicalize_name(requirement.name)
            assert name not in found, line
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            found[name] = pin.version
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_dependency_is_pinned_within_its_bounds(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    wanted += project["project"]["optional-dependencies"]["dev"]
    pinned = pins(python)
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in requirements.lock; run tools/lock.py"
        assert requirement.specifier.contains(pinned[name]), (requirement, pinned[name])


def test_what_does_not_exist_on_windows_is_not_asked_for_there():
    assert "uvloop" in pins("3.12")
    assert "uvloop" not in pins("3.12", platform="win32")


def test_pins_name_no_place_to_load_from():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|^\s*-|@", text, re.MULTILINE)


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {jaxrl.__version__}\n" in citation
