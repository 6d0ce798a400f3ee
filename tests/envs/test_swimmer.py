"""The swimmers, which are built link by link here, are dm_control's, number by number."""

import mujoco
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.mujoco_env import MujocoEnv
from tests.envs import dmc

KINDS = {
    "actuator": "actuator",
    "body": "body",
    "cam": "camera",
    "geom": "geom",
    "jnt": "joint",
    "sensor": "sensor",
    "site": "site",
}
"""Beginning of the names of arrays: accessor."""

MOVED = {"world", "target"}
"""The target is a geom of the world there, and a body of its own here."""


def numbers(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Every floating-point array, row by row under the name of the object that it describes."""
    found = {"dof": np.stack([model.dof_damping, model.dof_armature, model.dof_M0])}
    for prefix, accessor in KINDS.items():
        arrays = {x: getattr(model, x) for x in dir(model) if x.startswith(f"{prefix}_")}
        for array in (k for k, v in arrays.items() if getattr(v, "dtype", None) == np.float64):
            for row, values in enumerate(arrays[array]):
                name = getattr(model, accessor)(row).name
                if name not in MOVED:
                    found[f"{array} of {name}"] = values
    return found


@pytest.mark.parametrize("links", [6, 15])
def test_the_model_is_dm_controls(links):
    name = f"swimmer-swimmer{links}"
    ours = numbers(MujocoEnv(registry.tasks()[name]).model)
    theirs = numbers(dmc.load(name).physics.model.ptr)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 500
    for key, values in ours.items():
        np.testing.assert_allclose(values, theirs[key], rtol=1e-12, err_msg=key)
