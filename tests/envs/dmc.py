"""dm_control as the reference: the same state and action in, observation and reward out."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs import registry
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.task import Sim
from tests.envs.poses import POSES, thresholds

TOLERANCE = 1e-4
ACCELERATION_TOLERANCE = 1e-3


def load(name: str, seed: int = 0):
    """dm_control's environment of that name, reset once (tasks edit their model at a reset)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no display; deprecated attributes of model files
        from dm_control import suite

        domain, task = name.split("-", 1)
        env = suite.load(domain, task.replace("-", "_"), task_kwargs={"random": seed})
    env.reset()
    return env


def posed(name: str) -> MujocoEnv:
    """Our environment of that name, half of whose episodes start in a pose of high reward."""
    task = registry.tasks()[name]

    def start(model, data, random):
        arrays = task.start(model, data, random)
        if random.rand() < 0.5:
            POSES[name.split("-")[0]](model, data, random)
        return arrays

    return MujocoEnv(dataclasses.replace(task, start=start))


def flat(observation) -> np.ndarray:
    """dm_control's observation as one vector."""
    return np.concatenate([np.ravel(entry) for entry in observation.values()])


def targets(reference, model: mujoco.MjModel):
    """(mocap number, name, dm_control's array of positions) for each of our mocap bodies, which are
    geoms, sites or bodies of the same name there."""
    named = reference.physics.named.model
    arrays = (named.geom_pos, named.site_pos, named.body_pos)
    for body in np.flatnonzero(model.body_mocapid >= 0):
        name = model.body(body).name
        array = next(x for x in arrays if name in x.axes[0].names)
        yield model.body_mocapid[body], name, array


def place(reference, model: mujoco.MjModel, row) -> None:
    """Puts dm_control's physics into the state of `row`, one instance's `Physics` of our model."""
    physics = reference.physics
    with physics.reset_context():
        physics.data.qpos[:] = row.qpos
        physics.data.qvel[:] = row.qvel
        physics.data.act[:] = row.act
        for mocap, name, positions in targets(reference, model):
            positions[name] = row.mocap_pos[mocap]


def first_rows(reference, env: MujocoEnv, physics) -> np.ndarray:
    """dm_control's observations of a reset to each of the states, [N, O]."""
    rows = []
    for row in unstack(physics):
        place(reference, env.model, row)
        rows.append(flat(reference.task.get_observation(reference.physics)))
    return np.stack(rows)


def next_rows(reference, env: MujocoEnv, physics, actions):
    """dm_control's observations [N, O] and rewards [N] after one control step from each of the
    states, and whether a sparse reward may fall on either side [N]."""
    substeps = round(reference.control_timestep() / reference.physics.timestep())
    name, task, simulation = env.task.name, reference.task, reference.physics
    obs, rewards, close = [], [], []
    for row, action in zip(unstack(physics), np.asarray(actions, np.float64), strict=True):
        place(reference, env.model, row)
        task.before_step(action, simulation)
        simulation.step(substeps)
        task.after_step(simulation)
        obs.append(flat(task.get_observation(simulation)))
        rewards.append(task.get_reward(simulation))
        margins = [abs(x - at) / abs(at) for x, at in thresholds(name, simulation)]
        close.append(min(margins, default=1.0) < 1e-5)
    return np.stack(obs), np.array(rewards, float), np.array(close)


def unstack(physics):
    """The instances of a batched `Physics`, one by one, in NumPy."""
    physics = jax.tree.map(np.asarray, physics)
    return [jax.tree.map(lambda x, i=i: x[i], physics) for i in range(len(physics.time))]


def tolerances(env: MujocoEnv) -> np.ndarray:
    """Tolerance of each observation entry, [O]: wider where it reads an acceleration sensor."""
    late = np.asarray(env.model.sensor_needstage) == mujoco.mjtStage.mjSTAGE_ACC
    late = np.repeat(late, env.model.sensor_dim)
    physics, arrays = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), env._start_shape)

    def observe(sensordata):
        return env.task.observe(Sim(physics.replace(sensordata=sensordata), arrays, env._sensors))

    slopes = jax.jit(jax.jacobian(observe))(jnp.full(len(late), 0.5))
    reads_late = (np.asarray(slopes)[:, late] != 0).any(axis=1)
    return np.where(reads_late, ACCELERATION_TOLERANCE, TOLERANCE)


def assert_close(what: str, ours, theirs, tolerance) -> float:
    """|ours - theirs| <= tolerance * max(1, |theirs|); returns the largest error."""
    error = np.abs(np.asarray(ours, np.float64) - theirs) / np.maximum(1, np.abs(theirs))
    worst = np.unravel_index(np.nanargmax(error / tolerance), error.shape)
    assert np.all(error <= tolerance), (
        f"{what}: ours {ours[worst]}, dm_control's {theirs[worst]} at {worst}; "
        f"{np.sum(~(error <= tolerance))} of {error.size} entries differ"
    )
    return float(error.max())
