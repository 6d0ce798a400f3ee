"""`jaxrl dataset`: datasets of several qualities from one run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxrl.cache import enable_compilation_cache
from jaxrl.cli.options import parse
from jaxrl.errors import UsageError, check_seed

HEAD = ("quality", "policy of step", "transitions", "episodes", "return", "TQ", "SACo", "file")


@dataclasses.dataclass(frozen=True)
class DatasetOptions:
    """Make datasets from a run: what its policies do, and what it has seen."""

    run: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="Run folder, trained with --keep-policies."),
    ]
    quality: tuple[Literal["random", "medium", "medium-replay", "expert", "mixed"], ...] = (
        "medium",
    )
    """random: uniform actions. medium: the first kept policy with a third of the expert's return.
    medium-replay: all that the run had seen by then. expert: the best kept policy. mixed: --mix."""
    mix: tuple[Literal["random", "medium", "medium-replay", "expert"], ...] = ("medium", "expert")
    """What mixed is made of, in equal parts; a name given twice counts twice."""
    rows: int | None = None
    """Transitions of each dataset; by default 100,000, and of medium-replay all that there are."""
    layout: Literal["d4rl", "minari", "ogbench"] = "d4rl"
    """D4RL (an HDF5 file), Minari (a folder) or OGBench (an npz file)."""
    out: str | None = None
    """File, or folder for Minari, with {quality} in it if there are several; by default
    datasets/TASK-{quality}."""
    seed: int = 0
    """Of the episodes and of what is drawn at random."""


def dataset(arguments: list[str]) -> int:
    """`jaxrl dataset RUN [options]`."""
    options = parse(DatasetOptions, arguments, "jaxrl dataset", "Make datasets from a run.")
    qualities = tuple(dict.fromkeys(options.quality))
    if not qualities or not options.mix:
        raise UsageError("--quality and --mix take at least one name")
    if options.rows is not None and options.rows < 1:
        raise UsageError(f"--rows must be at least 1, got {options.rows}")
    check_seed(options.seed)
    if options.out is not None and len(qualities) > 1 and "{quality}" not in options.out:
        raise UsageError(
            f"--out {options.out} is one place for {len(qualities)} datasets; put {{quality}} in it"
        )
    from jaxrl.train.runlog import RunFolder

    config = RunFolder.open(options.run).config(("agent", "run"))
    targets = {quality: _target(options, quality, config["env_id"]) for quality in qualities}
    _make(options, targets)
    return 0


def _target(options: DatasetOptions, quality: str, env_id: str) -> Path:
    """Where a dataset goes; nothing is there yet."""
    from jaxrl.data.files import SUFFIXES, check_target
    from jaxrl.envs import taskfile

    if options.out is None:
        name = f"{taskfile.short(env_id)}-{quality}{SUFFIXES[options.layout]}"
        path = Path("datasets", name)
    else:
        path = Path(options.out.replace("{quality}", quality))
    check_target(path, options.layout, makes_folder=options.out is None)
    return path


def _make(options: DatasetOptions, targets: dict[Any, Path]) -> None:
    """Writes each dataset and prints a table."""
    enable_compilation_cache()
    import numpy as np

    from jaxrl.data import measures
    from jaxrl.data.files import write_dataset
    from jaxrl.train import collect, runlog

    source = collect.Source(options.run, options.seed)
    reference, spec = source.reference, source.spec
    print(
        f"{spec.name}: random {reference.low:.1f}, expert {reference.high:.1f} (step "
        f"{source.expert_step:,}), means of {collect.EPISODES} episodes"
    )
    for quality in targets:
        source.check(quality, options.rows, options.mix)
    grid = measures.Grid.of(source.replay, options.seed)
    table: list[tuple[str, ...]] = [HEAD]
    for quality, path in targets.items():
        rows = source.rows(quality, options.rows, options.mix)
        returns = measures.returns(rows)
        quality_measure = measures.trajectory_quality(rows, reference)
        saco = grid.coverage(rows, options.seed)
        step = source.step(quality)
        about = {
            **source.about(),
            "quality": quality if quality != "mixed" else f"mixed ({' '.join(options.mix)})",
            "policy_step": -1 if step is None else step,
            "command": runlog.command_line(),
            "git_commit": runlog.git_commit(),
            "tq": quality_measure,
            "saco": saco,
            "saco_parts": grid.parts,
        }
        bounds = np.array([spec.action_low, spec.action_high])
        if options.out is None:
            path.parent.mkdir(exist_ok=True)
        write_dataset(path, options.layout, rows, about, bounds)
        spread = f"{returns.mean():.1f} ± {returns.std():.1f}" if len(returns) else "-"
        table.append(
            (
                quality,
                "-" if step is None else f"{step:,}",
                f"{rows.transitions:,}",
                f"{len(rows.ends):,}",
                spread,
                "-" if math.isnan(quality_measure) else f"{quality_measure:.2f}",
                f"{saco:.2f}",
                str(path),
            )
        )
    _print(table)
    print(
        "TQ: mean return, random 0, expert 1. SACo: unique state-action pairs beside as many of\n"
        f"the run's replay, each dimension cut into {grid.parts} parts, which leave "
        f"{grid.unique:.2f} of the replay's unique."
    )


def _print(table: list[tuple[str, ...]]) -> None:
    """Columns as wide as their widest entry; the first and the last to the left."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [
            cell.ljust(width) if i in (0, len(line) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
