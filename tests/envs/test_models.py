"""The models that are built or altered here are dm_control's, number by number."""

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


@pytest.mark.parametrize(
    "name",
    ["hopper-stand", "hopper-hop", "humanoid-run", "quadruped-walk", "quadruped-run"]
    + ["dog-stand", "dog-walk", "dog-trot", "dog-run"],
)
def test_only_sensors_are_added(name):
    """All arrays are dm_control's, but those of the sensors and of names and files."""
    ours, theirs = MujocoEnv(registry.tasks()[name]).model, dmc.load(name).physics.model.ptr
    arrays = {
        k: getattr(theirs, k) for k in dir(theirs) if not k.startswith(("_", "name", "sensor"))
    }
    for key, array in arrays.items():
        if isinstance(array, np.ndarray) and not key.endswith("pathadr"):
            np.testing.assert_array_equal(getattr(ours, key), array, err_msg=key)
    options = [k for k in dir(theirs.opt) if not k.startswith("_")]
    different = [k for k in options if np.any(getattr(ours.opt, k) != getattr(theirs.opt, k))]
    assert different == ["disableflags"]
