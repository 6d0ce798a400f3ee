"""Errors of every solver on every process against its number of steps, with an exact denoiser.

    python benchmarks/diffusion_orders.py

Two errors, both on mixtures whose x0-hat is a closed form (tests/diffusion/mixture.py). *Samples*:
the Wasserstein distance of 65,536 samples in the plane, started from the prior, to the mixture, the
mean over 8 directions. *Solver*: of a deterministic one the mean distance of end points to SciPy's
solution of the ODE from the same starts; of a stochastic one the error of the first three moments,
without sampling (both as in tests/diffusion/test_orders.py). Slopes are least squares over the
solver errors of 16 steps and more. Writes benchmarks/results/diffusion_orders.json and
docs/images/diffusion_orders.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from provenance import described
from scipy.stats import norm

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from jaxrl import atomic  # noqa: E402
from jaxrl.diffusion import EDM, Flow, Process, Sampler, VariancePreserving  # noqa: E402
from jaxrl.train.runlog import command_line  # noqa: E402
from tests.diffusion import test_orders as orders  # noqa: E402
from tests.diffusion.mixture import PLANE  # noqa: E402
from tests.diffusion.processes import PROCESSES, STOCHASTIC  # noqa: E402

PANELS: dict[str, tuple[str, Process, Process]] = {
    "vp": ("variance preserving", VariancePreserving("linear"), PROCESSES["vp"]),
    "edm": ("EDM", EDM(), PROCESSES["edm"]),
    "flow": ("flow matching", Flow(), PROCESSES["flow"]),
}
"""Title, and the process of samples and of solver errors."""
SOLVERS = {
    "ddim": {"color": "C0", "linewidth": 5, "alpha": 0.4},  # under euler's, which may be the same
    "euler": {"color": "C1"},
    "heun": {"color": "C2"},
    "dpmpp_2m": {"color": "C3"},
    "ddpm": {"color": "C4", "linewidth": 5, "alpha": 0.4},
    "euler_ancestral": {"color": "C5"},
}
STEPS = (2, 4, 8, 16, 32, 64, 128)
DRAWS = 65_536


def distance(x: np.ndarray) -> float:
    """Of samples [n, 2] to the mixture: 1-Wasserstein along a line, mean over 8 lines."""
    ranks = (np.arange(len(x)) + 0.5) / len(x)
    far = []
    for angle in np.pi * np.arange(8) / 8:
        line = np.array([np.cos(angle), np.sin(angle)])
        centres = PLANE.means @ line
        roots = np.sqrt(np.einsum("d,kde,e->k", line, PLANE.covariances, line))
        at = np.linspace(-8, 8, 20_001)
        cdf = norm.cdf(at[:, None], centres, roots) @ PLANE.shares
        far.append(np.abs(np.sort(x @ line) - np.interp(ranks, cdf, at)).mean())
    return float(np.mean(far))


def sampled(process: Process, solver: str, steps: int) -> float:
    """The distance of samples that start from the prior."""
    sampler = Sampler(process, solver, steps)
    denoise = PLANE.denoiser(process)
    run = jax.jit(lambda key: sampler.sample(key, denoise, (DRAWS, 2)))
    return distance(np.asarray(run(jax.random.key(steps)), np.float64))


def solved(name: str, solver: str, steps: int) -> float:
    """The solver's own error."""
    process = PROCESSES[name]
    if solver in STOCHASTIC:
        return float(np.linalg.norm(orders.expectations(process, solver, steps) - orders.MOMENTS))
    start, _, end = orders.truth(name, 0.5)

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.array(PLANE.x0(np.asarray(x), *process.levels(np.asarray(t))))

    with jax.enable_x64(True), jax.disable_jit():
        x = Sampler(process, solver, steps).solve(jax.random.key(0), denoise, jnp.array(start))
    return float(np.abs(np.asarray(x) - end).mean())


def draw(rows: list[dict], slopes: list[dict], path: Path) -> None:
    """Samples above, solver errors below, one column per process."""
    figure, axes = plt.subplots(2, 3, figsize=(11, 7), sharex=True, sharey="row")
    floor = distance(PLANE.draw(np.random.default_rng(0), DRAWS))
    for column, (name, (title, *_)) in enumerate(PANELS.items()):
        for solver, style in SOLVERS.items():
            mine = [r for r in rows if (r["process"], r["solver"]) == (name, solver)]
            dashes = "--" if solver in STOCHASTIC else "-"
            style = {**style, "linestyle": dashes, "marker": "o", "markersize": 3}
            steps = [r["steps"] for r in mine]
            axes[0, column].loglog(steps, [r["samples"] for r in mine], label=solver, **style)
            slope = next(
                s["slope"] for s in slopes if (s["process"], s["solver"]) == (name, solver)
            )
            label = f"{solver}, slope {slope:.2f}"
            axes[1, column].loglog(steps, [r["error"] for r in mine], label=label, **style)
        axes[0, column].axhline(floor, color="0.6", linewidth=1, label="exact draws")
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("steps")
        axes[1, column].legend(fontsize=7, loc="lower left")
    axes[0, 0].set_ylabel("samples: Wasserstein distance")
    axes[1, 0].set_ylabel("solver: error of end points or moments")
    axes[0, 2].legend(fontsize=7)
    for axis in axes.flat:
        axis.set_xticks(STEPS, [str(n) for n in STEPS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures, prints, writes and draws."""
    paths = ("jaxrl/diffusion", "tests/diffusion", "benchmarks/diffusion_orders.py")
    where, rows, slopes = described("jax", "numpy", "scipy", paths=paths), [], []
    print(f"{'process':<8}{'solver':<17}{'steps':>5}  {'samples':>9}  {'error':>9}")
    for name, (_, process, _) in PANELS.items():
        for solver in SOLVERS:
            mine = [
                {
                    "process": name,
                    "solver": solver,
                    "steps": steps,
                    "samples": float(f"{sampled(process, solver, steps):.4g}"),
                    "error": float(f"{solved(name, solver, steps):.4g}"),
                }
                for steps in STEPS
            ]
            for r in mine:
                print(
                    f"{name:<8}{solver:<17}{r['steps']:>5}  {r['samples']:9.2e}  {r['error']:9.2e}",
                    flush=True,
                )
            late = [(r["steps"], r["error"]) for r in mine if r["steps"] >= 16]
            slope = orders.slope(*zip(*late, strict=True))
            row = {"process": name, "title": PANELS[name][0], "solver": solver}
            slopes.append({**row, "slope": round(slope, 3)})
            rows += mine
    result = {
        "command": command_line(),
        **where,
        "draws": DRAWS,
        "slopes": slopes,
        "rows": rows,
    }
    path = ROOT / "benchmarks" / "results" / "diffusion_orders.json"
    atomic.write_json(path, result)
    draw(rows, slopes, ROOT / "docs" / "images" / "diffusion_orders.png")


if __name__ == "__main__":
    main()
