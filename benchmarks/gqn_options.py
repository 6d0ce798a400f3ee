"""What each option of GQN is worth: return and training steps/s on walker-walk after 200,000 steps.

    python benchmarks/gqn_options.py run [PATTERN]     trains what is missing, one run at a time
    python benchmarks/gqn_options.py report            the table of what is there

Each row changes one option of the first. Steps/s are the median over the run's chunks, so that what
runs beside has to be the same for all rows. How runs are resumed, kept and counted:
benchmarks/cells.py.
"""

from __future__ import annotations

import dataclasses
import sys

import cells
import numpy as np

from jaxrl import atomic

SUITE = "gqn_options"
STEPS = 200_000
OPTIONS = {
    "default": "",
    "plain torso": "--torso plain",
    "plain epsilon": "--epsilon-mode plain",
    "single critic": "--critics 1",
    "C51 head": "--head c51",
    "HL-Gauss head": "--head hl_gauss",
    "bfloat16": "--precision bfloat16",
    "1 environment": "--num-envs 1",
    "64 environments": "--num-envs 64",
    "9 17 33 65 bins": "--bins 9 17 33 65",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run."""

    option: str

    @property
    def name(self) -> str:
        """File name."""
        return self.option.lower().replace(" ", "-")

    def arguments(self) -> list[str]:
        """What follows `jaxrl`."""
        steps = ["--steps", str(STEPS), "--no-video"]
        return ["train", "gqn", "walker-walk", *steps, *OPTIONS[self.option].split()]


CELLS = [Cell(option) for option in OPTIONS]


def report() -> None:
    """Prints the table and writes it as JSON. Returns are means of a run's last tenth."""
    rows = []
    for cell, config, metrics in cells.finished(SUITE, CELLS):
        last = [m["eval/return_mean"] for m in metrics if m["global_step"] > 0.9 * STEPS]
        speed = [m["charts/SPS"] for m in metrics if "charts/SPS" in m]
        row = {"option": cell.option, "return": float(np.mean(last))}
        row |= {"steps/s": float(np.median(speed)), "given": OPTIONS[cell.option] or "nothing"}
        row |= {"command": config["command"], "commit": cells.commits([config["git_commit"]])}
        rows.append(row | {key: config[key] for key in ("versions", "device")})
        print(f"{cell.option:<18}{row['return']:>7.0f}{row['steps/s']:>7.0f} steps/s")
    atomic.write_json(cells.RESULTS / SUITE / "table.json", {"rows": rows})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", *pattern] if len(pattern) < 2:
            cells.run(SUITE, CELLS, *pattern)
        case ["report"]:
            report()
        case _:
            sys.exit(__doc__)
