"""What goal tasks share: one goal slice for observation and reward, its mark, brax's models.

A goal task observes [state | commanded goal]; the achieved goal is a slice of the state. The
commanded goal is an array of the episode, `sim.task["goal"]`, drawn with every start.

Shapes: S state size, G goal size.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.core import GoalSpec
from jaxrl.envs.task import Sim, Task, never

Array = jax.Array

EASY = 4.0
"""The looser radius of `eval/success_easy` in units of the radius (JaxGCRL: 2 m beside 0.5 m)."""

DrawGoal = Callable[..., np.ndarray]
"""Called with (MjModel, MjData, RandomState): draws a start on the host, writes it to the MjData
and returns the commanded goal, [G]. Where the start depends on the goal, also with the goal that
it has to be, or None."""


def easy_radius(goal: GoalSpec) -> float:
    """Radius of the looser success that is reported beside the strict one, in the goal's unit."""
    return EASY * goal.radius


def distance(achieved: Array, commanded: Array) -> Array:
    """Euclidean distance of goals [..., G], [...]."""
    return jnp.linalg.norm(achieved - commanded, axis=-1)


@dataclasses.dataclass(frozen=True)
class GoalReward:
    """Reward of a goal task: 1 within the radius, else 0; or minus the distance where dense."""

    goal: GoalSpec
    observe: Callable[[Sim], Array]
    """The task's observation, [S + G]."""
    dense: bool = False

    def between(self, achieved: Array, commanded: Array) -> Array:
        """Reward of goals [..., G], [...] float32: what relabelling needs."""
        away = distance(achieved, commanded)
        return -away if self.dense else (away < self.goal.radius).astype(jnp.float32)

    def __call__(self, sim: Sim) -> Array:
        """Reward of the row that the simulation is in, []."""
        obs = self.observe(sim)
        return self.between(obs[self.goal.achieved], obs[self.goal.commanded])


def goal_task(
    name: str,
    model: Callable[[], mujoco.MjSpec],
    *,
    state: Callable[[Sim], Array],
    state_size: int,
    achieved: slice,
    radius: float,
    start: DrawGoal,
    control_dt: float,
    steps: int,
    unit: str = "m",
    terminated: Callable[[Sim], Array] = never,
    start_knows_goal: bool = False,
) -> Task:
    """A `Task` whose observation is [state | commanded goal].

    Args:
      name: `domain-task`.
      model: builds the model, with a mark of the goal (`add_goal_mark`).
      state: state, [S].
      state_size: S.
      achieved: slice of the state that is compared with the commanded goal.
      radius: distance under which the goal counts as reached, in `unit`.
      start: draws the start and returns the goal, [G].
      control_dt: seconds between two actions.
      steps: control steps of an episode.
      unit: of the goal's coordinates.
      terminated: whether the MDP ends here, [].
      start_knows_goal: the start depends on the goal, so `start` takes one to keep to.
    """
    size = achieved.stop - achieved.start
    goal = GoalSpec(achieved, slice(state_size, state_size + size), unit, radius)
    observe = functools.partial(_observe, state=state)
    return Task(
        name=name,
        model=model,
        control_dt=control_dt,
        time_limit=steps * control_dt,
        start=GoalStart(start, start_knows_goal),
        observe=observe,
        reward=GoalReward(goal, observe),
        terminated=terminated,
        goal=goal,
    )


def _observe(sim: Sim, state: Callable[[Sim], Array]) -> Array:
    return jnp.concatenate([state(sim), sim.task["goal"]])


@dataclasses.dataclass(frozen=True)
class GoalStart:
    """Start of a goal task: draws it with its goal, or for the goal that is asked for."""

    draw: DrawGoal
    knows_goal: bool = False
    goal: np.ndarray | None = None
    """Commanded in every episode, [G]; None draws one."""

    def __call__(self, model, data, random) -> dict[str, np.ndarray]:
        """Writes the start to `data`; returns the episode's arrays."""
        told = (self.goal,) if self.knows_goal else ()
        drawn = self.draw(model, data, random, *told)
        goal = np.asarray(drawn if self.goal is None else self.goal, np.float64)
        show_goal(data, goal)
        return {"goal": goal}


def show_goal(data: mujoco.MjData, goal: np.ndarray) -> None:
    """Moves the goal's mark to the goal's first three coordinates, [G]."""
    data.mocap_pos[0, : len(goal)] = goal


def brax_spec(file: str) -> mujoco.MjSpec:
    """The MjSpec of a model file of the installed brax (without importing brax)."""
    package = importlib.util.find_spec("brax")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the bodies' model files come from brax: pip install brax")
    path = Path(package.submodule_search_locations[0], "envs", "assets", file)
    return mujoco.MjSpec.from_file(str(path))


GOAL_COLOUR = (0.1, 0.8, 0.2, 0.5)


def add_goal_mark(spec: mujoco.MjSpec, size: float, height: float = 0.0) -> None:
    """Adds the goal as a mocap body, a sphere without collisions; `size` and `height` in m."""
    body = spec.worldbody.add_body(name="goal", mocap=True, pos=[0.0, 0.0, height])
    sphere = mujoco.mjtGeom.mjGEOM_SPHERE
    body.add_site(name="goal", type=sphere, size=[size, 0.0, 0.0], rgba=GOAL_COLOUR)


def add_camera(
    spec: mujoco.MjSpec,
    pos: Sequence[float],
    target: Sequence[float],
    up: Sequence[float] = (0.0, 0.0, 1.0),
    fovy: float = 45.0,
) -> None:
    """Adds the camera of `render` (the world's come before the bodies' own).

    Args:
      pos: where it stands, m.
      target: what it looks at, m.
      up: direction that is up in the picture.
      fovy: vertical field of view, degrees.
    """
    view = np.subtract(target, pos)
    right = np.cross(view, up)
    camera = spec.worldbody.add_camera(name="scene", pos=list(pos), fovy=fovy)
    camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    camera.alt.xyaxes = [*right, *np.cross(right, view)]


def plain_floor(spec: mujoco.MjSpec, size: float = 60.0) -> None:
    """Makes the geom `floor` light grey, and drawn out to `size` metres."""
    floor = spec.geom("floor")
    floor.material = ""
    floor.rgba = [0.5, 0.5, 0.5, 1.0]
    floor.size = [size, size, floor.size[2]]


ITERATIONS = 20


def set_brax_options(spec: mujoco.MjSpec) -> None:
    """The options of brax's `mjx` backend for its ant and humanoid, with a solver that converges.

    The backend allows one iteration of the solver. That leaves joint limits unresolved and makes a
    step depend on the one before it through the warm start (see `benchmarks/ant_parity.py`). The
    solver stops by itself when it has converged, after 1.5 iterations on average and 9 at most.
    """
    spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    spec.option.iterations = ITERATIONS
    spec.option.disableflags = mujoco.mjtDisableBit.mjDSBL_EULERDAMP.value
