"""Where a benchmark ran that has no jax in its environment: commit, processor, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


STATISTICS = ("jaxrl/stats", "benchmarks/stats_speed.py", "benchmarks/adastop_level.py")


def described(*packages: str, paths: Sequence[str] = STATISTICS) -> dict[str, Any]:
    """Commit (with "+" if these paths have changes), versions and device."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", *paths)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "commit": git("rev-parse", "HEAD") + "+" * bool(changed),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
        "device": {
            "platform": "cpu",
            "kind": next(x.split(":")[1].strip() for x in lines if x.startswith("model name")),
            "cores": os.cpu_count(),
        },
    }
