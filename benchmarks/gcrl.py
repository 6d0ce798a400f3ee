"""Goal-reaching agents beside JaxGCRL: success and time near the goal, and how fast they train.

    python benchmarks/gcrl.py run [PATTERN]     trains what is missing, one run at a time
    python benchmarks/gcrl.py report            the table of what is there, beside published figures
    python benchmarks/gcrl.py throughput        steps/s, peak memory and compile time on ant-goal

How runs are resumed, kept and counted: benchmarks/cells.py.

Physics is MuJoCo's C engine (`native`), but for tasks `brax/...`, which run on brax's older
`spring` physics, as JaxGCRL's ant does.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time

import cells
import numpy as np

from jaxrl import atomic, stats
from jaxrl.train.runlog import command_line, device, git_commit, versions

SUITE = "gcrl"
RESULTS = cells.RESULTS / SUITE

AGENTS = {
    "crl": ("crl", ""),
    "crl-random": ("crl", "--random-goals 0.5"),
    "crl-peer": ("crl", "--peer-settings code"),
    "crl-dot": (
        "crl",
        "--energy dot --loss forward --critics 1 --no-entropy --random-goals 0.5 "
        "--logsumexp-penalty 0.01 --activation relu",
    ),
    "sgcrl": ("sgcrl", "--peer-settings code"),
    "random": ("sgcrl", "--learning-starts 99992"),
    "sac": ("sac", ""),
    "sac-her": ("sac", "--hindsight future"),
}
"""Ours: agent and options; "crl-random" trains half of the policy's batch on goals of other rows;
"crl-peer" has the settings of JaxGCRL's code; "crl-dot" has SGCRL's settings, but a new goal in
every episode; "random" acts uniformly at random, its last block aside: for pictures of where it
gets, as evaluations are of the untrained policy."""

MAZE = (
    "--num-envs 16 --env-steps-per-update 2 --learning-starts 3200 --eval-every 6400 "
    "--eval-episodes 100"
)
SMALL = {"crl": "--width 64", "sac": "--widths 64 64"}
"""Networks for point mazes, which need no larger ones."""
SPIRAL = "--eval-every 20000 --eval-episodes 100"
LARGE = (
    "--num-envs 256 --env-steps-per-update 16 --capacity 2560000 --learning-starts 25600 "
    "--chunk-steps 5120 --eval-episodes 100"
)
"""Of the loop: point mazes; the spiral; and bodies, with JaxGCRL's instances, replay and update
ratio."""

FIGURES = ("success", "success_easy", "time_near_goal", "final_distance")
"""Of an evaluation, in the table."""

JAXGCRL_STEPS = 480
"""Its environment steps/s with updates, ant, 256 instances, on 2 cores of 240 GFLOP/s."""

PUBLISHED = {
    (
        "ant-goal",
        "crl-peer",
    ): "replicated .33 at 50M; paper .76 at 50M, .70 at 11M (spring)",
    ("brax/ant-goal", "crl-peer"): "replicated .33 at 50M; paper .76 at 50M, .70 at 11M",
    ("ant-umaze", "crl-peer"): "replicated .37 at 50M, .11 at 5M (spring)",
    ("ant-ball", "crl-peer"): "replicated .18 at 50M, .002 at 5M (spring)",
    ("reacher-goal", "crl-peer"): "replicated 1.0",
}
"""Share of episodes with a step within the radius: JaxGCRL Figure and the replication JB243."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run."""

    task: str
    agent: str
    steps: int
    loop: str
    seed: int = 0

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.task.replace('/', '-')}_{self.agent}_s{self.seed}"

    def arguments(self) -> list[str]:
        """What follows `jaxrl`."""
        agent, options = AGENTS[self.agent]
        settings = ["--steps", str(self.steps), *self.loop.split(), *options.split()]
        return ["train", agent, self.task, *settings, "--seed", str(self.seed), "--no-video"]


MAZES = {"point-umaze": 51_200, "point-medium": 102_400}
WOUND, REACH, FAR = 1_000_000, 2_000_128, 5_000_192
"""Environment steps; the last two are whole blocks of 256 instances."""
REACH_LOOP = f"{LARGE} --eval-every 100096"
FAR_LOOP = f"{LARGE} --eval-every 250112"
PEER_LOOP = "--chunk-steps 5120 --eval-episodes 100 --eval-every 250112"

CELLS = [
    *(
        Cell(task, agent, steps, f"{MAZE} {SMALL[AGENTS[agent][0]]}", seed)
        for task, steps in MAZES.items()
        for agent in ("crl", "crl-random", "crl-dot", "sac-her", "sac")
        for seed in range(3)
    ),
    *(Cell("point-spiral", "sgcrl", WOUND, SPIRAL, seed) for seed in range(3)),
    Cell("point-spiral", "random", 100_000, f"{SPIRAL} --num-envs 8"),
    *(Cell("ant-goal", "crl", FAR, FAR_LOOP, seed) for seed in range(3)),
    Cell("ant-goal", "crl-random", FAR, FAR_LOOP),
    *(Cell("brax/ant-goal", "crl", FAR, FAR_LOOP, seed) for seed in range(3)),
    Cell("brax/ant-goal", "crl-peer", FAR, PEER_LOOP),
    Cell("ant-goal", "crl-peer", FAR, PEER_LOOP),
    Cell("reacher-goal", "crl", REACH, REACH_LOOP),
    Cell("reacher-goal", "crl-peer", REACH, PEER_LOOP),
    Cell("pusher-easy", "crl", REACH, REACH_LOOP),
    Cell("pusher-easy", "crl-peer", REACH, PEER_LOOP),
    Cell("ant-umaze", "crl", FAR, FAR_LOOP),
    Cell("ant-ball", "crl", FAR, FAR_LOOP),
    Cell("ant-umaze", "sgcrl", FAR, f"{FAR_LOOP} --goal 12 4 --capacity 5120000"),
]
"""In the order in which they are trained."""


def report() -> None:
    """Prints the table and writes it as JSON: a row for each task and agent. A run's figures are
    means of its last three evaluations, 100 episodes each; "exploring" is the success of its last
    policy's samples, where `gcrl_pictures.py acting` counted it. Intervals are Student's over
    seeds, within 0 and 1."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for cell, config, metrics in cells.finished(SUITE, [c for c in CELLS if c.agent != "random"]):
        run = {name: float(np.mean([m[f"eval/{name}"] for m in metrics[-3:]])) for name in FIGURES}
        run |= {"run": cell.name, "steps": metrics[-1]["global_step"]}
        run |= {"untrained": metrics[0]["eval/success"], "command": config["command"]}
        run |= {"curve": [[m["global_step"], m["eval/success"]] for m in metrics]}
        run |= {"hours": metrics[-1]["wall_time"] / 3600, "commit": config["git_commit"]}
        run |= {key: config[key] for key in ("versions", "device")}
        run |= {"exploring": exploring(cell.name, config["git_commit"], run["steps"])}
        groups.setdefault((cell.task, cell.agent), []).append(run)
    rows = []
    for (task, agent), runs in groups.items():
        mean = {name: float(np.mean([run[name] for run in runs])) for name in FIGURES}
        success = interval([run["success"] for run in runs])
        row = {"task": task, "agent": agent, **mean, "success": str(success)}
        explored = [run["exploring"] for run in runs]
        if None not in explored:
            row |= {"exploring": str(interval(explored))}
        row |= {"low": success.low, "untrained": float(np.mean([r["untrained"] for r in runs]))}
        row |= {"published": PUBLISHED.get((task, agent), ""), "steps": runs[0]["steps"]}
        physics = "spring (brax)" if task.startswith("brax/") else "native (MuJoCo)"
        row |= {"physics": physics, "hours": float(np.mean([r["hours"] for r in runs]))}
        row |= {"command": runs[0]["command"]}
        row |= {"commit": cells.commits(run["commit"] for run in runs)}
        row |= {"runs": runs}
        rows.append(row)
    for row in rows:
        print(
            f"{row['task']:<14}{row['agent']:<10}{row['steps']:>10,}  success {row['success']:<32}"
            f"exploring {row.get('exploring', '-'):<32}at 0 {row['untrained']:.2f}  "
            f"easy {row['success_easy']:.2f}  near "
            f"{row['time_near_goal']:.1f}  {row['published']}"
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic.write_json(RESULTS / "table.json", {"rows": rows})


def interval(values: list[float]) -> stats.Estimate:
    """Mean and Student's interval of shares, one per seed."""
    scores = stats.Scores.of({"": values})
    return stats.aggregate(
        scores, stats.mean, interval=len(values) > 1, method="student", bounds=(0, 1)
    )


def exploring(run: str, commit: str, steps: int) -> float | None:
    """Success of the samples of the run's last policy, that after `steps`, if it was counted."""
    file = RESULTS / "acting.json"
    counted = json.loads(file.read_text()).get(run) if file.exists() else None
    if counted is None or (counted["run_commit"], counted["step"]) != (commit, steps):
        return None
    return counted["exploring"]["success"]


def throughput() -> None:
    """Training on ant-goal with JaxGCRL's settings and one encoder pair, float32."""
    import jax
    import jax.numpy as jnp

    import jaxrl
    from jaxrl.agents.crl import CRL
    from jaxrl.agents.peers import PEERS
    from jaxrl.train.online import OnlineLoop

    peer = PEERS["crl"]["code"]
    settings = peer.run()
    env = jaxrl.make("ant-goal", "native", start_slots=2)
    agent = dataclasses.replace(CRL(), **peer.agent).bind(env.spec).canonical()
    loop = OnlineLoop(
        env, settings["num_envs"], settings["env_steps_per_update"], settings["capacity"]
    )
    state = jax.jit(loop.init)(agent, jax.random.key(0))
    function = jax.jit(loop.chunk, static_argnames="learn", donate_argnums=1)
    blocks, t, rates = jnp.int32(20), 0, {}
    for learn, turns in ((False, 6), (True, 6)):
        for turn in range(turns):
            began, cpu = time.perf_counter(), time.process_time()
            clock = jnp.int32(t)
            state, sums = jax.block_until_ready(function(agent, state, clock, blocks, learn=learn))
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            t += 20 * loop.iterations
            steps = 20 * loop.block_steps
            name = "train" if learn else "collect"
            if turn == 0:
                rates[f"{name}_first_call_seconds"] = seconds
            else:
                rates[name] = max(rates.get(name, 0.0), steps / seconds)
                per_core = f"{name}_per_core_second"
                rates[per_core] = max(rates.get(per_core, 0.0), steps / cpu)
    assert int(sums["updates"]) == 20 * loop.updates
    about = {
        "peak_memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "settings": settings,
        "jaxgcrl_train": JAXGCRL_STEPS,
        "times_jaxgcrl": rates["train"] / JAXGCRL_STEPS,
        "command": command_line(),
        "commit": git_commit(),
        "versions": versions(),
        "device": device(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic.write_json(RESULTS / "throughput.json", rates | about)
    for name, value in {**rates, "times_jaxgcrl": about["times_jaxgcrl"]}.items():
        print(f"{name:<28}{value:>12,.1f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", *pattern] if len(pattern) < 2:
            cells.run(SUITE, CELLS, *pattern)
        case ["report"]:
            report()
        case ["throughput"]:
            throughput()
        case _:
            sys.exit(__doc__)
