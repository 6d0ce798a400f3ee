"""Statistics need NumPy alone."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

for name in ("jax", "jaxlib", "scipy", "pandas", "matplotlib", "mujoco", "flax", "tyro"):
    sys.modules[name] = None  # an import of it raises

from jaxrl import stats

scores = stats.Scores.of({"walker-walk": [930.0, 951.0, 908.0]})
normal = stats.normalise(scores)
print(stats.aggregate(normal, reps=100), stats.improvement(normal, normal, reps=100).point)
"""


def test_statistics_work_where_jax_cannot_be_imported():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0.930 [0.")
    assert done.stdout.endswith("(n = 3) 0.5\n")
