"""Mazes from readable text maps.

    #  wall        .  free        R  free, episodes start here        G  free, goals lie here

Without an R episodes start anywhere free; without a G goals lie anywhere free. The outside of the
map is walled. The text is the maze as the camera sees it from above: row i lies at x = i * cell,
column j at y = j * cell, so that x points down the page and y along a line, as in JaxGCRL's mazes.

U_MAZE, BIG_MAZE (D4RL's antmaze-medium) and HARDEST_MAZE have the layout of JaxGCRL's ant mazes
(Bortkiewicz et al., 2025, arXiv 2408.11052), SPIRAL that of SGCRL's point_Spiral11x11 (Liu et al.,
2025, arXiv 2408.05804), and PUSH_MAZE that of JaxGCRL's ant_push, whose movable block starts at M.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mujoco
import numpy as np

from jaxrl.envs.goal.common import add_camera
from jaxrl.errors import UsageError

U_MAZE = """
#####
#RGG#
###G#
#GGG#
#####
"""

BIG_MAZE = """
########
#RG##GG#
#GG#GGG#
##GGG###
#GG#GGG#
#G#GG#G#
#GGG#GG#
########
"""

HARDEST_MAZE = """
############
#RGGG#GGGGG#
#G##G#G#G#G#
#GGGGGG#GGG#
#G####G###G#
#GG#G#GGGGG#
##G#G#G#G###
#GG#GGG#GGG#
############
"""

SPIRAL = """
###########
#..........
#.########.
#.#......#.
#.#.####.#.
#.#.#R.#.#.
#.#.##.#.#.
#.#....#.#.
#.######.#.
#........#.
##########G
"""

PUSH_MAZE = """
R.#
.MG
#G#
"""

WALL_COLOUR = (0.5, 0.35, 0.2, 1.0)
UP = (-1.0, 0.0, 0.0)
"""The direction that is up in the text and in the picture."""
FOVY = 40.0
"""Field of view of the camera, degrees."""
PICTURE = 0.75
"""Height over width of a picture."""


@dataclasses.dataclass(frozen=True)
class Maze:
    """A maze: rows of characters and the size of a cell."""

    rows: tuple[str, ...]
    """Lines of equal length."""
    cell: float
    """Edge of a cell, m."""

    def where(self, kinds: str) -> np.ndarray:
        """Row and column of the cells whose character is in `kinds`, [N, 2]."""
        return np.argwhere(np.isin(self._grid, list(kinds)))

    def centre(self, cells: np.ndarray) -> np.ndarray:
        """Positions (x, y) of cells [..., 2], m."""
        return self.cell * np.asarray(cells, float)

    @property
    def _grid(self) -> np.ndarray:
        return np.array([list(row) for row in self.rows])

    @property
    def free(self) -> np.ndarray:
        """Cells that are not walls, [N, 2]."""
        return self.where(".RGM")

    @property
    def starts(self) -> np.ndarray:
        """Cells where episodes start, [N, 2]."""
        marked = self.where("R")
        return marked if len(marked) else self.free

    @property
    def goals(self) -> np.ndarray:
        """Cells where goals lie, [N, 2]."""
        marked = self.where("G")
        return marked if len(marked) else self.free

    def draw(self, cells: np.ndarray, random: np.random.RandomState, spread: float) -> np.ndarray:
        """A position in one of `cells` [N, 2]: uniform in the middle `spread` of its edge, [2]."""
        offset = random.uniform(-0.5, 0.5, 2) * spread * self.cell
        return self.centre(cells[random.randint(len(cells))]) + offset

    def cell_of(self, position: np.ndarray) -> np.ndarray:
        """Row and column that positions (x, y) [..., 2] fall in, [..., 2]."""
        return np.floor(np.asarray(position) / self.cell + 0.5).astype(int)

    def steps_from(self, start: np.ndarray) -> np.ndarray:
        """Cells to walk from the cell `start` to each cell, [rows, columns]; -1 where no way
        leads."""
        walls = np.pad(self._grid == "#", 1, constant_values=True)
        steps = np.full(walls.shape, -1)
        border = [(int(start[0]) + 1, int(start[1]) + 1)]
        steps[border[0]] = 0
        for i, j in border:  # grows while it is walked through
            for cell in ((i, j + 1), (i, j - 1), (i + 1, j), (i - 1, j)):
                if steps[cell] < 0 and not walls[cell]:
                    steps[cell] = steps[i, j] + 1
                    border.append(cell)
        return steps[1:-1, 1:-1]

    def walls(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The walls as few boxes: first and last cell (row, column) of each, [2] and [2]."""
        grid = self._grid == "#"
        frame = np.pad(np.zeros_like(grid), 1, constant_values=True)
        inside = np.pad(grid, 1)
        closed = np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]]).all()
        left = inside if closed else inside | frame
        boxes = []
        while left.any():
            top, first = np.argwhere(left)[0]
            last, bottom = first, top
            while last + 1 < left.shape[1] and left[top, last + 1]:
                last += 1
            while bottom + 1 < left.shape[0] and left[bottom + 1, first : last + 1].all():
                bottom += 1
            left[top : bottom + 1, first : last + 1] = False
            boxes.append((np.array([top, first]) - 1, np.array([bottom, last]) - 1))
        return boxes


def parse(text: str, cell: float, what: str = "maze", cells: str = "#.RG") -> Maze:
    """The maze that `text` draws.

    Args:
      text: the map.
      cell: edge of a cell, m.
      what: its name in errors.
      cells: characters that it may have.

    Raises:
      UsageError: another character, lines of different length, no free cell, or a goal cell that
        no way leads to from a start cell.
    """
    rows = tuple(line.rstrip() for line in text.strip("\n").splitlines())
    for number, row in enumerate(rows, 1):
        strange = sorted(set(row) - set(cells))
        if strange:
            raise UsageError(
                f"{what}: line {number} has {strange[0]!r}; a cell is # (wall), . (free), "
                "R (start) or G (goal)"
            )
        if len(row) != len(rows[0]):
            raise UsageError(
                f"{what}: line {number} has {len(row)} cells and line 1 has {len(rows[0])}; "
                "make all lines equally long"
            )
    maze = Maze(rows, cell)
    if not rows or not len(maze.free):
        raise UsageError(f"{what} has no free cell; mark some with . R or G")
    first = maze.starts[0]
    steps = maze.steps_from(first)
    lost = [(first, goal) for goal in maze.goals if steps[*goal] < 0]
    lost += [(start, maze.goals[0]) for start in maze.starts if steps[*start] < 0]
    for start, goal in lost:  # ways lead back as well, so one search tells of all starts
        raise UsageError(
            f"{what}: no way leads from the start in line {start[0] + 1}, column {start[1] + 1} "
            f"to the goal in line {goal[0] + 1}, column {goal[1] + 1}; open a wall, or mark starts "
            "with R and goals with G"
        )
    return maze


def read(path: str | Path, cell: float) -> Maze:
    """The maze in a text file.

    Raises:
      UsageError: no such file, or not a maze (see `parse`).
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the maze {str(path)!r}: {error}") from None
    return parse(text, cell, f"maze {path}")


def add_walls(spec: mujoco.MjSpec, maze: Maze, height: float, category: int) -> None:
    """Adds the walls as boxes `height` metres high.

    They touch the geoms whose `conaffinity` has the bit `category`, and nothing else.
    """
    for number, (first, last) in enumerate(maze.walls()):
        middle = maze.centre(first + last) / 2
        half = maze.cell * (last - first + 1) / 2
        spec.worldbody.add_geom(
            name=f"wall_{number}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[*middle, height / 2],
            size=[*half, height / 2],
            contype=category,
            conaffinity=0,
            rgba=WALL_COLOUR,
        )


def add_maze_camera(spec: mujoco.MjSpec, maze: Maze, height: float) -> None:
    """Adds a camera above the maze that sees it as the text shows it."""
    rows, columns = len(maze.rows) + 1, len(maze.rows[0]) + 1
    middle = maze.centre(np.array([rows - 2, columns - 2])) / 2
    edge = maze.cell * max(rows, columns * PICTURE)
    above = edge / 2 / np.tan(np.radians(FOVY / 2)) + height
    add_camera(spec, [*middle, above], [*middle, 0.0], UP, FOVY)
