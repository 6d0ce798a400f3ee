"""JaxGCRL's ants on the physics that it simulates them with: brax's `spring` pipeline.

`brax/ant-goal` and the ant mazes are the tasks of `jaxrl.envs.goal` with another physics, so that
an agent can be compared with JaxGCRL's figures (Bortkiewicz et al., 2025) where those were made.
The pipeline (Freeman et al., "Brax", 2021) is a program of jax arrays: it runs on any device, and
on a processor about as fast as MuJoCo.

Bodies are free, and springs pull them together at the joints. Their positions and velocities are
therefore the state; joint angles are read off them.

Shapes: L bodies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from jaxrl.envs.goal import ant, ant_maze
from jaxrl.envs.goal.options import FrozenStarts
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.task import Physics, Sim, Task

Array = jax.Array

PREFIX = "brax/"
TIME_STEP = 0.005  # s, of brax's ant on `spring`
HIGHEST = 1.0  # m, height of the torso above which JaxGCRL's episodes terminate


@struct.dataclass
class SpringPhysics(Physics):  # type: ignore[override]
    """What tasks read, and the state of the pipeline."""

    bodies: Array  # [L, 13] position (3), rotation (4), angular (3) and linear (3) velocity
    at_start: Array  # [] bool: no step yet; `bodies` follow from qpos and qvel


class Spring:
    """Steps one instance of a model on brax's `spring` pipeline; batch it with `jax.vmap`.

    Args:
      spec: the model, without sensors: this engine fills none.
      control_dt: seconds of a control step.
    """

    name = "spring"

    def __init__(self, spec: mujoco.MjSpec, control_dt: float):
        self._spec = spec
        self.substeps = round(control_dt / TIME_STEP)
        self._step = jax.jit(self._advance)  # traced once, however many programs use it

    @functools.cached_property
    def system(self) -> Any:
        """Brax's form of the model; brax takes seconds to import, so at the first step."""
        with contextlib.redirect_stdout(io.StringIO()):  # it says that warp-lang is not there
            from brax.io import mjcf
        self._spec.compile()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Brax System.*not actively")
            loaded = mjcf.loads(self._spec.to_xml())
        return loaded.tree_replace({"opt.timestep": TIME_STEP})

    def step(self, physics: Physics, ctrl: Array) -> Physics:
        """Physics (a `SpringPhysics`) after one control step under `ctrl` [nu]; unbatched."""
        return self._step(physics, ctrl)

    def _advance(self, physics: SpringPhysics, ctrl: Array) -> SpringPhysics:
        system = self.system
        from brax.spring import pipeline

        state = pipeline.init(system, physics.qpos, physics.qvel)
        bodies = jnp.where(physics.at_start, packed(state), physics.bodies)
        state = self._state(state, bodies)

        def substep(state: Any, _: None) -> tuple[Any, None]:
            return pipeline.step(system, state, ctrl), None

        state, _ = jax.lax.scan(substep, state, None, length=self.substeps)
        return dataclasses.replace(
            physics,
            time=physics.time + self.substeps * TIME_STEP,
            qpos=state.q,
            qvel=state.qd,
            ctrl=ctrl,
            bodies=packed(state),
            at_start=jnp.zeros((), bool),
        )

    def _state(self, template: Any, bodies: Array) -> Any:
        """The pipeline's state with these bodies: all else is a function of them."""
        from brax import com, kinematics
        from brax.base import Motion, Transform

        pos, rot, ang, vel = jnp.split(bodies, (3, 7, 10), axis=-1)
        x_i, xd_i = Transform(pos=pos, rot=rot), Motion(ang=ang, vel=vel)
        x, xd = com.to_world(self.system, x_i, xd_i)
        j, jd, a_p, a_c = kinematics.world_to_joint(self.system, x, xd)
        q, qd = kinematics.inverse(self.system, j, jd)
        return template.replace(
            q=q, qd=qd, x=x, xd=xd, x_i=x_i, xd_i=xd_i, j=j, jd=jd, a_p=a_p, a_c=a_c
        )


def packed(state: Any) -> Array:
    """The bodies of a state of brax's, [L, 13]."""
    x, xd = state.x_i, state.xd_i
    return jnp.concatenate([x.pos, x.rot, xd.ang, xd.vel], axis=-1)


class SpringEnv(MujocoEnv):
    """A task that reads qpos and qvel alone, on brax's `spring` pipeline; starts are the task's."""

    def __init__(self, task: Task, start_slots: int = 1):
        spring = Spring(task.model(), task.control_dt)
        super().__init__(task, start_slots, lambda model, substeps: spring)

    def _draw(self, key: np.ndarray, number: int) -> tuple[Physics, dict[str, np.ndarray]]:
        physics, task = super()._draw(key, number)
        fields = {f.name: getattr(physics, f.name) for f in dataclasses.fields(physics)}
        links = len(np.unique(self.model.jnt_bodyid))
        fields |= {"bodies": np.zeros((links, 13), np.float32), "at_start": np.ones((), bool)}
        return SpringPhysics(**fields), task


class FrozenSpringEnv(FrozenStarts, SpringEnv):
    """The same with one start and one goal for an instance's whole life."""


def left_health(sim: Sim) -> Array:
    """Whether the torso is too low or too high."""
    return ant.fallen(sim) | (sim.qpos[2] > HIGHEST)


@functools.cache
def tasks() -> dict[str, Task]:
    """JaxGCRL's tasks of the ant alone, by name."""
    return {
        PREFIX + task.name: dataclasses.replace(
            task, name=PREFIX + task.name, terminated=left_health
        )
        for task in (*ant.TASKS, *ant_maze.TASKS)
    }
