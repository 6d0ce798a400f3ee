"""Writes requirements.lock from the `pip freeze --all` of two environments.

    python tools/lock.py FREEZE_311 FREEZE_312 > requirements.lock

The environments hold the newest versions of what pyproject.toml asks for, the extra `dev`
included, on Python 3.11 and 3.12:

    python3.11 -m venv a; a/bin/pip install -e '.[dev]' setuptools; a/bin/pip freeze --all > a.txt

A version that differs between them gets a marker; Python 3.12 stands for all later ones.
"""

import re
import sys
from pathlib import Path

LEFT_OUT = {"jaxrl", "pip"}
PLATFORM = {"uvloop": 'sys_platform != "win32"'}
"""Packages that other packages ask for on some platforms only."""


def freeze(path: str) -> dict[str, str]:
    """Versions by normalised name; a line that is no plain pin (an editable one) is left out."""
    pins = re.findall(r"^([\w.-]+)==(\S+)$", Path(path).read_text(), re.MULTILINE)
    names = [(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in pins]
    return {name: version for name, version in names if name not in LEFT_OUT}


def lock(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The lines of the lock file: one for each name, two where the versions differ."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        for version, python in ((old.get(name), "<"), (new.get(name), ">=")):
            markers = [PLATFORM[name]] if name in PLATFORM else []
            if old.get(name) != new.get(name):
                markers.append(f'python_version {python} "3.12"')
            if version:
                lines.append(f"{name}=={version}" + " ; " * bool(markers) + " and ".join(markers))
    return list(dict.fromkeys(lines))


if __name__ == "__main__":
    print("# Made by tools/lock.py. Runtime and development packages, Python 3.11 and newer.")
    print(*lock(freeze(sys.argv[1]), freeze(sys.argv[2])), sep="\n")
