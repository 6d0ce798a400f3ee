"""What each command does."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxrl import atomic
from jaxrl.cache import enable_compilation_cache
from jaxrl.cli.compare import compare
from jaxrl.cli.dataset import dataset
from jaxrl.cli.options import merged, parse, values_of
from jaxrl.cli.report import render_html, report
from jaxrl.errors import UsageError, check_seed

if TYPE_CHECKING:
    from jaxrl.train.config import RunConfig

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="Run folder.")]


def train(arguments: list[str]) -> int:
    """`jaxrl train AGENT TASK [options]`."""
    from jaxrl import agents
    from jaxrl.cli import INTERRUPTED

    if arguments and arguments[0] in ("-h", "--help"):
        known = ", ".join(agents.defaults())
        print(f"usage: jaxrl train AGENT TASK [options]\n\nagents: {known}")
        return 0
    name, agent, task, config = parse_train(arguments)
    enable_compilation_cache()
    from jaxrl.train.runner import RunFailed
    from jaxrl.train.runner import train as run

    try:
        result = run(name, agent, task, config)
    except RunFailed as failure:
        print(f"jaxrl: {failure}", file=sys.stderr)
        return 1
    if not result.finished:
        return INTERRUPTED
    return 0 if result.saved == result.step else 1


def parse_train(arguments: list[str]) -> tuple[str, Any, str, RunConfig]:
    """What `jaxrl train` is asked for: agent's name, agent, task, and the run's configuration.

    Raises:
      UsageError: an unknown agent or option, or a value that cannot be.
    """
    from jaxrl import agents
    from jaxrl.train.config import OfflineConfig, TrainConfig

    known = ", ".join(agents.defaults())
    name = arguments[0] if arguments else ""
    if not name or name.startswith("-"):
        raise UsageError(f"AGENT is missing: jaxrl train AGENT TASK [options]; there are: {known}")
    agent = agents.default(name)
    learns_offline = agents.is_offline(agent)
    _check_dataset(name, learns_offline, arguments)
    run_config: RunConfig = OfflineConfig() if learns_offline else TrainConfig()
    peers = _peers(name)
    peer = peers.get("".join(values_of(PEER, arguments)[:1]))
    if peer:
        instances = "".join(values_of("--num-envs", arguments)[:1]).replace("_", "")
        loop = peer.run(int(instances) if instances.isdecimal() else None)
        run_config = dataclasses.replace(run_config, **loop)
        agent = dataclasses.replace(agent, **peer.agent)
    options = merged(
        "Options",
        {"task": "Name of the task (`jaxrl envs` lists them), or FILE.py:TASK of your own."},
        run=run_config,
        agent=agent,
        **({"peer": _peer_option(tuple(peers))} if peers else {}),
    )
    parsed: Any = parse(options, arguments[1:], f"jaxrl train {name}", f"Train {name} on a task.")
    if name == "decqn" and len(parsed.agent.bins) != 1:
        raise UsageError(
            f"decqn keeps one resolution, got --bins {' '.join(map(str, parsed.agent.bins))}; "
            "gqn grows through several"
        )
    if peer:
        settings = [_settings(parsed.run, loop), _settings(parsed.agent, peer.agent)]
        print(f"settings of {peer.source}: {' '.join(settings)}")
    return name, parsed.agent, parsed.task, parsed.run


def _check_dataset(agent: str, needs_one: bool, arguments: list[str]) -> None:
    """Raises `UsageError` for a dataset that is missing, or that the agent cannot learn from."""
    from jaxrl import agents

    given = bool(values_of("--dataset", arguments))
    if given and not needs_one:
        raise UsageError(
            f"{agent} learns from what it does and takes no --dataset; agents that learn from one "
            f"are: {', '.join(agents.offline())}"
        )
    if needs_one and not given and not {"-h", "--help"} & set(arguments):
        raise UsageError(
            f"--dataset is missing: {agent} learns from a file that D4RL, Minari or OGBench can "
            "read; `jaxrl dataset RUN` makes one from a run"
        )


PEER = "--peer-settings"


def _peers(agent: str) -> dict[str, Any]:
    """Whole configurations of peers for the agent, by name."""
    from jaxrl.agents.peers import PEERS

    return dict(PEERS.get(agent, {}))


def _peer_option(names: tuple[str, ...]) -> Any:
    """A dataclass with the option `--peer-settings`, whose values become other options' defaults
    before the command line is parsed."""
    text = "Start from the whole configuration of a peer (jaxrl/agents/peers.py)."
    kind: Any = Annotated[Literal[names] | None, tyro.conf.arg(help=text)]
    default = dataclasses.field(default=None)
    return dataclasses.make_dataclass("Peer", [("peer_settings", kind, default)])()


def _settings(options: Any, names: Iterable[str]) -> str:
    """Options as the command line takes them."""
    return " ".join(f"{name}={getattr(options, name)}" for name in names)


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """Evaluate the policy of a run."""

    run: RunPath
    episodes: int = 10
    """Episodes, in parallel."""
    seed: int = 0
    """Of the episodes' starts."""
    step: int | None = None
    """Checkpoint to load; the newest by default."""
    task: str | None = None
    """Another task of the same sizes, such as walker-run for a run of walker-walk."""
    explore: bool = False
    """Act as in training, by samples of the policy or with the agent's noise, and not greedily."""


def evaluate(arguments: list[str]) -> int:
    """`jaxrl eval RUN [options]`."""
    options = parse(EvalOptions, arguments, "jaxrl eval", "Evaluate the policy of a run.")
    if options.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, got {options.episodes}")
    check_seed(options.seed)
    enable_compilation_cache()
    import jax

    from jaxrl.train.results import load

    trained = load(options.run, options.episodes, options.step, options.task)
    key = jax.random.key(options.seed)
    returns = trained.evaluator.returns(trained.agent, trained.state, key, options.explore)
    name = trained.evaluator.env.spec.name
    kind = "exploring" if options.explore else "greedy"
    print(f"{name}, checkpoint at step {trained.step:,}, {options.episodes} {kind} episodes")
    for metric, values in returns.items():
        digits = 3 if metric.startswith(("success", "final")) else 1
        mean, std = f"{values.mean():8.{digits}f}", f"{values.std():.{digits}f}"
        print(f"{metric.replace('episode_', ''):<22} {mean} ± {std}")
    return 0


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Film the policy of a run."""

    run: RunPath
    out: Path | None = None
    """File; by default policy.mp4, or with --html policy.html, in the run folder."""
    html: bool = False
    """Write a page that plays the episode in three dimensions; needs no OpenGL library."""
    seed: int = 0
    """Of the episode's start."""
    step: int | None = None
    """Checkpoint to load; the newest by default."""


def render(arguments: list[str]) -> int:
    """`jaxrl render RUN [options]`; exit code 1 if no OpenGL library is there."""
    options = parse(RenderOptions, arguments, "jaxrl render", "Film the policy of a run.")
    check_seed(options.seed)
    enable_compilation_cache()
    from jaxrl.train.results import load, write_video

    trained = load(options.run, 1, options.step)
    if options.html:
        return render_html(trained, options.out, options.seed, newest=options.step is None)
    path = options.out or options.run / "policy.mp4"
    said = write_video(path, trained.evaluator, trained.agent, trained.state, options.seed)
    print(f"video    {said}")
    return 0 if said == str(path) else 1


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write the policy of a run as one file that needs nothing but jax."""

    run: RunPath
    out: Path | None = None
    """File; by default policy.jaxexport in the run folder."""
    step: int | None = None
    """Checkpoint to load; the newest by default."""


def export(arguments: list[str]) -> int:
    """`jaxrl export RUN [options]`."""
    options = parse(ExportOptions, arguments, "jaxrl export", "Export the policy of a run.")
    from jaxrl.train.policy import LOADING, export_policy

    path = options.out or options.run / "policy.jaxexport"
    if options.out is not None:
        atomic.check_folder(path)
    step, spec = export_policy(options.run, path, options.step)
    print(f"policy of step {step:,} written to {path}; use it anywhere with\n")
    sizes = {"observations": spec.observation_size, "actions": spec.action_size}
    print(LOADING.format(path=str(path), **sizes))
    return 0


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""


def envs(arguments: list[str]) -> int:
    """`jaxrl envs`: every task with its sizes, its clock and the engines that can simulate it."""
    parse(NoOptions, arguments, "jaxrl envs", "List the tasks.")
    from jaxrl.envs.physics import engines
    from jaxrl.envs.registry import brax_tasks, goal_tasks, make, names, tasks

    simulated = {**tasks(), **goal_tasks()}
    engine = dict.fromkeys(brax_tasks(), "spring (brax)")
    sizes = f"{'observation':>12}{'actions':>9}{'period s':>10}{'steps':>7}"
    print(f"{'task':<26}{sizes}  engines")
    for name in names():
        spec = make(name, "auto" if name in engine else "native").spec
        print(
            f"{name:<26}{spec.observation_size:>12}{spec.action_size:>9}"
            f"{spec.control_dt:>10g}{spec.episode_length:>7}  "
            + (engines.in_words(simulated[name]) if name in simulated else engine.get(name, "-"))
        )
    print("\nThe speed of warp is unmeasured: no run on a GPU has been recorded yet.")
    return 0


def doctor(arguments: list[str]) -> int:
    """`jaxrl doctor`: what a run on this machine would use."""
    parse(NoOptions, arguments, "jaxrl doctor", "Describe this machine.")
    enable_compilation_cache()
    import jax

    from jaxrl.envs.physics import engines
    from jaxrl.envs.physics.native import available_cores
    from jaxrl.envs.registry import tasks
    from jaxrl.train import runlog

    flags = runlog.cpu_flags()
    lines = {
        "devices": ", ".join(f"{d.platform}:{d.device_kind}" for d in jax.devices()),
        "processor": runlog.processor(),
        "instructions": " ".join(x for x in flags if x.startswith(("avx", "amx", "fma"))) or "?",
        "physics": f"{engines.choose(tasks()['walker-walk'], 'auto')} (of --physics auto)",
        "threads": str(available_cores()),
        "cache": jax.config.values["jax_compilation_cache_dir"] or "off",
        "commit": runlog.git_commit(),
        **runlog.versions(),
    }
    for name, value in lines.items():
        print(f"{name:<18} {value}")
    return 0


COMMANDS = {
    "train": train,
    "eval": evaluate,
    "render": render,
    "export": export,
    "dataset": dataset,
    "compare": compare,
    "report": report,
    "envs": envs,
    "doctor": doctor,
}
