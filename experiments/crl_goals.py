"""Contrastive RL on a goal task, in one file that you can copy and change.

    python experiments/crl_goals.py --task point-umaze --agent.width 64

The policy learns to reach any goal, without a reward: a critic tells the states that follow an
action from those of other episodes, and the policy takes what makes its goal most likely.
Everything between the landmarks runs compiled, on whatever device jax finds. The parts come from
the package (environment, replay, agent, run folder); how they work together is written out here.
For resume, signals and videos use `jaxrl train crl ...`, which runs the same loop.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro

import jaxrl
from jaxrl.agents.crl import CRL, State
from jaxrl.cache import enable_compilation_cache
from jaxrl.envs.core import EnvState
from jaxrl.errors import UsageError, exit_on_bad_input
from jaxrl.replay import ring
from jaxrl.replay.hindsight import HindsightState
from jaxrl.train.evaluate import Evaluator
from jaxrl.train.runlog import MetricsWriter, RunFolder, describe


@dataclasses.dataclass(frozen=True)
class Args:
    """What to train, for how long."""

    task: str = "point-umaze"
    """Goal task; `jaxrl envs` lists them."""
    steps: int = 51_200
    """Environment steps, over all instances; a multiple of the chunk."""
    seed: int = 0
    """Of everything random."""
    num_envs: int = 16
    """Instances stepped in parallel."""
    updates_per_iteration: int = 8
    """Gradient steps after each step of all instances."""
    capacity: int = 1_000_000
    """Rows of replay."""
    learning_starts: int = 3200
    """Environment steps before the first update; a multiple of the chunk."""
    eval_every: int = 6400
    """Environment steps between evaluations; a multiple of the chunk."""
    eval_episodes: int = 100
    """Greedy episodes of an evaluation, each with a goal of its own."""
    chunk_steps: int = 1600
    """Environment steps per compiled call; a multiple of the instances."""
    out: Path = Path("runs/experiment")
    """Run folder."""
    overwrite: bool = False
    """Delete the run in that folder first."""
    agent: CRL = dataclasses.field(default_factory=CRL)
    """Hyperparameters."""


def main(args: Args) -> float:
    """Trains and returns the share of goals that the last evaluation reached."""
    # ---- Setup ----------------------------------------------------------------------------------
    # A chunk that is no whole number of iterations would leave rows of the replay unwritten.
    chunk = args.chunk_steps
    units = {"num_envs": 1, "chunk_steps": args.num_envs, "learning_starts": chunk}
    for name, unit in {**units, "eval_every": chunk, "steps": chunk}.items():
        value = getattr(args, name)
        if value < 1 or value % unit:
            raise UsageError(f"{name} must be a multiple of {unit}, above 0, got {value}")
    env = jaxrl.make(args.task, start_slots=1 + args.chunk_steps // args.num_envs)
    agent = args.agent.bind(env.spec).canonical()  # bind: where an observation holds its goals
    replay = agent.replay(args.capacity // args.num_envs, args.num_envs)
    iterations = args.chunk_steps // args.num_envs
    agent_key, env_key, loop_key, eval_key = jax.random.split(jax.random.key(args.seed), 4)

    # ---- One iteration: act, store, step, learn -------------------------------------------------
    Carry = tuple[State, EnvState, HindsightState]

    def collect(carry: Carry, t: jax.Array) -> Carry:
        state, envs, buffer = carry
        action = agent.act(state, envs.obs, jax.random.fold_in(loop_key, 2 * t), explore=True)
        flags = ring.flags(envs.terminated, envs.truncated, envs.unstable)
        # Row t: what was seen and what is done about it; reward and flags came with obs.
        buffer = replay.add(buffer, ring.Rows(envs.obs, action, envs.reward, flags), t)
        # A row that ended an episode ignores its action: the next row starts the next episode.
        envs = jax.vmap(env.step)(envs, agent.decode(action, env.spec))
        return state, envs, buffer

    def learn(carry: Carry, key: jax.Array, rows: jax.Array) -> tuple[Carry, jax.Array]:
        state, envs, buffer = carry
        sample_key, update_key = jax.random.split(key)
        # Goals are states that followed, by gamma's law.
        batch = replay.sample(buffer, rows, sample_key)
        state, metrics = agent.update(state, batch, update_key)
        return (state, envs, buffer), metrics["critic_loss"]

    def fill(carry: Carry, start: jax.Array) -> Carry:
        return jax.lax.fori_loop(start, start + iterations, lambda t, c: collect(c, t), carry)

    def train(carry: Carry, start: jax.Array) -> tuple[Carry, jax.Array]:
        def iteration(carry: Carry, t: jax.Array) -> tuple[Carry, jax.Array]:
            carry = collect(carry, t)
            key = jax.random.fold_in(loop_key, 2 * t + 1)
            keys = jax.random.split(key, args.updates_per_iteration)
            carry, losses = jax.lax.scan(lambda c, k: learn(c, k, t + 1), carry, keys)
            return carry, losses.mean()

        carry, losses = jax.lax.scan(iteration, carry, start + jnp.arange(iterations))
        return carry, losses.mean()

    # ---- Compile once; give the carry away so that the replay is updated in place ----------------
    fill, train = jax.jit(fill, donate_argnums=0), jax.jit(train, donate_argnums=0)
    refill = jax.jit(jax.vmap(env.refill))  # draws the starts and goals of coming episodes
    evaluator = Evaluator(jaxrl.make(args.task), args.eval_episodes)

    # ---- First rows, empty replay ---------------------------------------------------------------
    state = agent.init(agent_key, env.spec)
    envs = jax.jit(jax.vmap(env.reset))(jax.random.split(env_key, args.num_envs))
    action = agent.act(state, envs.obs, agent_key, explore=True)
    row = ring.Rows(envs.obs, action, envs.reward, jnp.zeros((args.num_envs,), jnp.uint8))
    carry = (state, envs, replay.init(row))

    # ---- The host loop: chunks, starts, evaluation, log -----------------------------------------
    folder = RunFolder.create(args.out, args.overwrite)
    folder.write_config(describe("crl_goals", args.agent, args.task, args))
    log = MetricsWriter(folder)
    began, success = time.monotonic(), float("nan")
    for step in range(0, args.steps + 1, args.chunk_steps):
        record: dict[str, float | int] = {"global_step": step}
        if step > 0:
            start = jnp.asarray((step - args.chunk_steps) // args.num_envs, jnp.int32)
            if step <= args.learning_starts:
                carry = fill(carry, start)
            else:
                carry, loss = train(carry, start)
                record["losses/critic_loss"] = float(loss)
        state, envs, buffer = carry
        if step % args.eval_every == 0 or step == args.steps:
            found = evaluator.returns(agent, state, jax.random.fold_in(eval_key, step))
            success, near = float(found["success"].mean()), float(found["time_near_goal"].mean())
            record |= {"eval/success": success, "eval/time_near_goal": near}
            record |= {"eval/return_mean": float(found["episode_return"].mean())}
            record |= {"eval/episodes": args.eval_episodes}
            print(f"step {step:>9,}  success {success:.2f}  steps near {near:5.1f}", flush=True)
        carry = (state, refill(envs), buffer)
        log.write({**record, "wall_time": round(time.monotonic() - began, 3)})
    log.close()
    return success


if __name__ == "__main__":
    enable_compilation_cache()
    with exit_on_bad_input():
        main(tyro.cli(Args, description=__doc__))
