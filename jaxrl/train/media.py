"""The picture and the film of a run: its learning curve and its policy.

matplotlib and imageio-ffmpeg are imported when first used: a run should not wait for them at its
start.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxrl import atomic

INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
TRAINED, UNPENALISED = "#2563eb", "#d97706"
"""Colours of the two lines; distinct in greyscale and to colour-blind readers."""


def save_curve(
    metrics: Sequence[Mapping[str, float]],
    path: str | Path,
    title: str,
    unit: str = "environment steps",
) -> None:
    """Draws evaluation returns against steps as a PNG.

    The line is `eval/return_mean`, the band one `eval/return_std` to either side. Where
    `eval/return_unpenalised` differs from the mean, it is a second line.

    Args:
      metrics: rows of metrics.jsonl in any order; those without an evaluation are skipped.
      path: of the PNG; an existing one is replaced.
      title: such as "gqn on walker-walk, seed 0".
      unit: what the steps are.

    Raises:
      ValueError: no row holds an evaluation.
    """
    rows = [row for row in metrics if "eval/return_mean" in row]
    if not rows:
        raise ValueError(f"no curve to draw for {path}: no row of metrics has eval/return_mean")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    rows.sort(key=lambda row: row["global_step"])
    steps = np.array([row["global_step"] for row in rows], float)
    mean = np.array([row["eval/return_mean"] for row in rows], float)
    std = np.array([row.get("eval/return_std", 0.0) for row in rows], float)
    plain = np.array([row.get("eval/return_unpenalised", np.nan) for row in rows], float)
    two = bool(np.any(np.abs(plain - mean) > 1e-3 * np.maximum(1.0, np.abs(mean))))

    figure = Figure(figsize=(7.0, 4.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.fill_between(steps, mean - std, mean + std, color=TRAINED, alpha=0.15, linewidth=0)
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5 if len(rows) <= 60 else 0}
    label = _band_label(rows, "as trained, action cost included: " if two else "")
    axes.plot(steps, mean, color=TRAINED, linewidth=1.8, label=label, **dots)
    if two:
        axes.plot(
            steps, plain, color=UNPENALISED, linewidth=1.6, label="without the action cost", **dots
        )

    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=10)
    axes.set_xlabel(unit, color=MUTED)
    axes.set_ylabel("evaluation return (sum of rewards)", color=MUTED)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    span = max(steps[-1] - steps[0], 10.0)
    axes.set_xlim(steps[0] - 0.01 * span, steps[0] + 1.02 * span)
    if (mean - std).min() >= 0:
        axes.set_ylim(bottom=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED, labelsize=9)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    legend: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.9}
    axes.legend(loc="best", fontsize=9, labelcolor=INK, **legend)
    with atomic.replacing(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _band_label(rows: Sequence[Mapping[str, float]], what: str) -> str:
    """What the line and its band are, with the number of episodes where it is one number."""
    episodes = {row.get("eval/episodes") for row in rows}
    count = episodes.pop() if len(episodes) == 1 else None
    return f"{what}mean ± 1 std" + (f" of {count:g} episodes" if count else "")


def save_video(frames: Iterable[np.ndarray], path: str | Path, fps: float) -> None:
    """Writes frames as an MP4 that browsers play: H.264, yuv420p, even sizes.

    An odd last row or column is repeated once, since the pixel format halves both sizes.

    Args:
      frames: pictures [H, W, 3] uint8 of one size, drawn one at a time.
      path: of the MP4; it appears when it is complete, and replaces an existing one.
      fps: frames shown per second.

    Raises:
      ValueError: no frame, or one of another shape or type.
      RuntimeError: ffmpeg failed; the message holds its reason.
    """
    with contextlib.ExitStack() as stack:
        encoder, shape = None, None
        for i, frame in enumerate(frames):
            frame = np.asarray(frame)
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                raise ValueError(f"frame {i} is {frame.dtype} {frame.shape}, not uint8 [H, W, 3]")
            height, width = frame.shape[:2]
            frame = np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], "edge")
            if encoder is None:
                shape = frame.shape
                unfinished = stack.enter_context(atomic.replacing(path))
                encoder = stack.enter_context(_encoder(unfinished, shape[1], shape[0], fps))
            if frame.shape != shape:
                raise ValueError(f"frame {i} has shape {frame.shape}, the first one {shape}")
            encoder.write(frame.tobytes())
        if encoder is None:
            raise ValueError(f"no video to write for {path}: there is no frame")


@contextlib.contextmanager
def _encoder(path: Path, width: int, height: int, fps: float) -> Iterator[IO[bytes]]:
    """A stream whose raw frames ffmpeg encodes.

    imageio's own writer starts ffmpeg with a function to call after `fork`, which JAX, being
    multithreaded, warns may deadlock. A session of its own keeps Ctrl-C from the encoder as well.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}"]
    command += ["-i", "-", "-an", "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p"]
    command += ["-movflags", "+faststart", str(path)]  # the index first: browsers play at once
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=log, start_new_session=True
        )
        assert process.stdin is not None
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg gave up; its reason is in the log
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.wait() != 0:
            log.seek(0)
            reason = " ".join(log.read().decode(errors="replace").split())
            raise RuntimeError(f"ffmpeg could not write {path}: {reason}")
