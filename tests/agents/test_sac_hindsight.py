"""SAC with hindsight replay: what it is told of a task, what it refuses, that it reaches goals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents.sac import SAC
from jaxrl.cli import main
from jaxrl.replay.uniform import Uniform
from jaxrl.train.online import OnlineLoop
from tests.agents.goal_probe import GOAL, Square


def success(hindsight: str, updates: int = 1200) -> float:
    """Share of 64 greedy episodes that end within the radius of their goal."""
    agent = SAC(
        widths=(32, 32),
        batch_size=64,
        actor_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        temperature_learning_rate=3e-3,
        initial_temperature=0.1,
        discount=0.9,
        hindsight=hindsight,
    )
    env = Square()
    agent = agent.bind(env.spec).canonical()
    loop = OnlineLoop(env, num_envs=8, env_steps_per_update=4, capacity=16_000)
    state = jax.jit(loop.init)(agent, jax.random.key(0))
    chunk = jax.jit(loop.chunk, static_argnames="learn", donate_argnums=1)
    state, _ = chunk(agent, state, jnp.int32(0), jnp.int32(50), learn=False)
    state, _ = chunk(agent, state, jnp.int32(50), jnp.int32(updates // 2), learn=True)

    @jax.jit
    def finals(agent_state):
        rows = jax.vmap(env.reset)(jax.random.split(jax.random.key(9), 64))

        def step(_, rows):
            action = agent.act(agent_state, rows.obs, jax.random.key(0), explore=False)
            return jax.vmap(env.step)(rows, agent.decode(action, env.spec))

        obs = jax.lax.fori_loop(0, env.length, step, rows).obs
        return jnp.linalg.norm(obs[:, GOAL.achieved] - obs[:, GOAL.commanded], axis=-1)

    return float(np.mean(finals(state.agent) < GOAL.radius))


def test_sac_with_hindsight_reaches_goals():
    assert success("future") > 0.9


def test_binding_tells_the_replay_where_goals_are():
    agent = SAC(hindsight="final", hindsight_share=0.5).bind(Square().spec)
    replay = agent.replay(100, 4)
    assert (replay.achieved, replay.commanded) == ((1, 3), (3, 5))
    assert (replay.strategy, replay.share, replay.radius) == ("final", 0.5, GOAL.radius)
    assert isinstance(SAC().bind(Square().spec).replay(100, 4), Uniform)


SHAPED = """
import dataclasses
from jaxrl.envs.registry import goal_tasks
task = goal_tasks()["point-umaze"]
shaped = dataclasses.replace(task, name="shaped", reward=lambda sim: 0.1 * sim.qpos[0])
"""


@pytest.mark.parametrize(
    ("task", "options", "named"),
    [
        ("cartpole-swingup", "", "sac with hindsight learns to reach goals, and cartpole-swingup"),
        ("point-umaze", "--n-step 3", "--n-step 1"),
        ("point-umaze", "--action-cost 0.1", "--action-cost 0.1"),
        ("point-umaze", "--action-repeat 2", "--action-repeat 2"),
        ("point-umaze", "--dense-reward", "--hindsight-dense"),
        ("point-umaze", "--hindsight-dense", "--dense-reward"),
        ("FILE:shaped", "", "and shaped.py:shaped has one of its own; make it by goal_task"),
    ],
)
def test_what_hindsight_cannot_reward_is_refused(capsys, tmp_path, task, options, named):
    (tmp_path / "shaped.py").write_text(SHAPED)
    task = task.replace("FILE", str(tmp_path / "shaped.py"))
    out = ["--out", str(tmp_path / "run"), "--hindsight", "future"]
    assert main(["train", "sac", task, *out, *options.split()]) == 2
    said = capsys.readouterr().err
    assert named in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
