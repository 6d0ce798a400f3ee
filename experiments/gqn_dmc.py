"""Growing Q-networks on a dm_control task, in one file that you can copy and change.

    python experiments/gqn_dmc.py --task walker-walk --steps 200000

Everything between the landmarks runs compiled, on whatever device jax finds. The parts come from
the package (environment, replay, agent, run folder); how they work together is written out here.
For resume, signals and videos use `jaxrl train gqn ...`, which runs the same loop.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl
from jaxrl.agents.gqn import GQN, State
from jaxrl.cache import enable_compilation_cache
from jaxrl.envs.core import EnvState
from jaxrl.errors import UsageError, exit_on_bad_input
from jaxrl.replay import ring
from jaxrl.replay.prioritized import PrioritizedState
from jaxrl.train.evaluate import Evaluator
from jaxrl.train.runlog import MetricsWriter, RunFolder, describe


@dataclasses.dataclass(frozen=True)
class Args:
    """What to train, for how long."""

    task: str = "walker-walk"
    """Task; `jaxrl envs` lists them."""
    steps: int = 200_000
    """Environment steps, over all instances; a multiple of the chunk."""
    seed: int = 0
    """Of everything random."""
    num_envs: int = 8
    """Instances stepped in parallel; one update per 8 environment steps needs a multiple of 8."""
    capacity: int = 1_000_000
    """Rows of replay."""
    learning_starts: int = 1000
    """Environment steps before the first update; a multiple of the chunk."""
    eval_every: int = 10_000
    """Environment steps between evaluations; a multiple of the chunk."""
    chunk_steps: int = 1000
    """Environment steps per compiled call; a multiple of the number of instances."""
    action_cost: float = 0.0
    """c_a in the reward r - c_a * mean(a^2)."""
    out: Path = Path("runs/experiment")
    """Run folder."""
    overwrite: bool = False
    """Delete the run in that folder first."""
    agent: GQN = dataclasses.field(default_factory=GQN)
    """Hyperparameters."""


def main(args: Args) -> float:
    """Trains and returns the last evaluation's mean return."""
    # ---- Setup ----------------------------------------------------------------------------------
    # A chunk that is no whole number of iterations would leave rows of the replay unwritten.
    chunk = args.chunk_steps
    units = {"num_envs": 8, "chunk_steps": args.num_envs, "learning_starts": chunk}
    for name, unit in {**units, "eval_every": chunk, "steps": chunk}.items():
        value = getattr(args, name)
        if value < 1 or value % unit:
            raise UsageError(f"{name} must be a multiple of {unit}, above 0, got {value}")
    agent = args.agent.canonical()
    env = jaxrl.make(args.task, action_cost=args.action_cost, start_slots=2)
    replay = agent.replay(args.capacity // args.num_envs, args.num_envs)
    updates_per_iteration = args.num_envs // 8
    iterations = args.chunk_steps // args.num_envs
    agent_key, env_key, loop_key, eval_key = jax.random.split(jax.random.key(args.seed), 4)

    # ---- One iteration: act, store, step, learn -------------------------------------------------
    Carry = tuple[State, EnvState, PrioritizedState]

    def collect(carry: Carry, t: jax.Array) -> Carry:
        state, envs, buffer = carry
        key = jax.random.fold_in(loop_key, 2 * t)
        action = agent.act(state, envs.obs, key, explore=True)
        flags = ring.flags(envs.terminated, envs.truncated, envs.unstable)
        # Row t: what was seen and what is done about it; reward and flags came with obs.
        buffer = replay.add(buffer, ring.Rows(envs.obs, action, envs.reward, flags), t)
        # A row that ended an episode ignores its action: the next row starts the next episode.
        envs = jax.vmap(env.step)(envs, agent.decode(action, env.spec))
        return state, envs, buffer

    def learn(carry: Carry, t: jax.Array, i: int) -> tuple[Carry, jax.Array]:
        state, envs, buffer = carry
        key = jax.random.fold_in(jax.random.fold_in(loop_key, 2 * t + 1), i)
        batch = replay.sample(buffer, t + 1, key)  # n-step returns, stopped at episode ends
        state, metrics = agent.update(state, batch, key)
        buffer = replay.update_priorities(buffer, batch.index, metrics["td_error"])
        return (state, envs, buffer), metrics["loss"]

    def fill(carry: Carry, start: jax.Array) -> Carry:
        return jax.lax.fori_loop(start, start + iterations, lambda t, c: collect(c, t), carry)

    def train(carry: Carry, start: jax.Array) -> tuple[Carry, jax.Array]:
        def iteration(carry: Carry, t: jax.Array) -> tuple[Carry, jax.Array]:
            carry = collect(carry, t)
            losses = []
            for i in range(updates_per_iteration):
                carry, loss = learn(carry, t, i)
                losses.append(loss)
            return carry, jnp.stack(losses).mean()

        carry, losses = jax.lax.scan(iteration, carry, start + jnp.arange(iterations))
        return carry, losses.mean()

    # ---- Compile once; give the carry away so that the replay is updated in place ----------------
    fill, train = jax.jit(fill, donate_argnums=0), jax.jit(train, donate_argnums=0)
    refill = jax.jit(jax.vmap(env.refill))  # draws the starts of coming episodes
    on_evaluation, on_progress = jax.jit(agent.on_evaluation), jax.jit(agent.on_progress)
    evaluator = Evaluator(jaxrl.make(args.task, action_cost=args.action_cost), episodes=10)

    # ---- First rows, empty replay ---------------------------------------------------------------
    state = agent.init(agent_key, env.spec)
    envs = jax.jit(jax.vmap(env.reset))(jax.random.split(env_key, args.num_envs))
    action = agent.act(state, envs.obs, agent_key, explore=True)
    row = ring.Rows(envs.obs, action, envs.reward, jnp.zeros((args.num_envs,), jnp.uint8))
    carry = (state, envs, replay.init(row))

    # ---- The host loop: chunks, starts, growth, evaluation, log ---------------------------------
    folder = RunFolder.create(args.out, args.overwrite)
    folder.write_config(describe("gqn_dmc", args.agent, args.task, args))
    log = MetricsWriter(folder)
    began, mean = time.monotonic(), float("nan")
    for step in range(0, args.steps + 1, args.chunk_steps):
        record: dict[str, float | int] = {"global_step": step}
        if step > 0:
            start = jnp.asarray((step - args.chunk_steps) // args.num_envs, jnp.int32)
            if step <= args.learning_starts:
                carry = fill(carry, start)
            else:
                carry, loss = train(carry, start)
                record["losses/loss"] = float(loss)
        state, envs, buffer = carry
        progress = np.float32(step / args.steps)
        if step % args.eval_every == 0 or step == args.steps:
            returns = evaluator.returns(agent, state, jax.random.fold_in(eval_key, step))
            mean = float(returns["episode_return"].mean())
            record |= {"eval/return_mean": mean, "eval/episodes": 10}
            state = on_evaluation(state, jnp.asarray(mean, jnp.float32), progress)
            bins = agent.bins[int(state.level)]
            print(f"step {step:>9,}  return {mean:7.1f}  bins {bins}", flush=True)
        state = on_progress(state, progress)  # grows the action resolution on its schedule
        carry = (state, refill(envs), buffer)
        log.write({**record, "wall_time": round(time.monotonic() - began, 3)})
    log.close()
    return mean


if __name__ == "__main__":
    enable_compilation_cache()
    with exit_on_bad_input():
        main(tyro.cli(Args, description=__doc__))
