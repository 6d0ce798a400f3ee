"""Curve and video: files that open again and hold what was put in."""

import warnings

import numpy as np
import pytest

from jaxrl.train.media import save_curve, save_video

ROWS = [
    {"global_step": step, "eval/return_mean": mean, "eval/return_std": 20.0, "eval/episodes": 10}
    for step, mean in [(0, 30.0), (2_000, 300.0), (1_000, 200.0)]
]
BLUE, ORANGE = (37, 99, 235), (217, 119, 6)


def read_picture(path):
    import imageio.v3 as imageio

    return imageio.imread(path)[..., :3].astype(int)


def pixels_of(picture, colour):
    """Rows and columns of the pixels close to a colour."""
    return np.nonzero(np.abs(picture - colour).max(-1) < 30)


def read_video(path):
    import imageio.v2 as imageio

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"os.fork\(\) was called")
        with imageio.get_reader(path) as reader:
            return [frame.astype(int) for frame in reader], reader.get_meta_data()


def frames(count, height=48, width=64):
    """Grey pictures, each brighter than the one before, with a red left half."""
    for i in range(count):
        frame = np.full((height, width, 3), 40 + 10 * i, np.uint8)
        frame[:, : width // 2, 0] = 250
        yield frame


def test_curve_is_a_png_with_a_line_that_climbs(tmp_path):
    save_curve(ROWS, tmp_path / "curve.png", "gqn on walker-walk")
    picture = read_picture(tmp_path / "curve.png")
    assert picture.shape == (585, 910, 3)
    rows, columns = pixels_of(picture, BLUE)
    inside = rows > 100  # below the title and the legend
    rows, columns = rows[inside], columns[inside]
    left, right = rows[columns < 200], rows[columns > 800]
    assert left.min() > right.max() + 200
    assert len(pixels_of(picture, ORANGE)[0]) == 0


def test_rows_may_come_in_any_order_and_without_evaluation(tmp_path):
    mixed = [ROWS[2], {"global_step": 500, "losses/td": 1.0}, ROWS[1], ROWS[0]]
    save_curve(ROWS, tmp_path / "a.png", "t")
    save_curve(mixed, tmp_path / "b.png", "t")
    np.testing.assert_array_equal(
        read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    )


@pytest.mark.parametrize(("extra", "second_line"), [(0.0, False), (60.0, True)])
def test_the_return_without_action_cost_is_a_line_where_it_differs(tmp_path, extra, second_line):
    rows = [{**row, "eval/return_unpenalised": row["eval/return_mean"] + extra} for row in ROWS]
    save_curve(rows, tmp_path / "curve.png", "t")
    picture = read_picture(tmp_path / "curve.png")
    assert (len(pixels_of(picture, ORANGE)[0]) > 500) == second_line


def test_a_single_evaluation_is_drawn(tmp_path):
    save_curve(ROWS[:1], tmp_path / "curve.png", "t")
    assert len(pixels_of(read_picture(tmp_path / "curve.png"), BLUE)[0]) > 20


@pytest.mark.parametrize("rows", [[], [{"global_step": 0, "losses/td": 1.0}]])
def test_no_evaluation_is_no_curve(tmp_path, rows):
    with pytest.raises(ValueError, match=r"curve\.png: no row of metrics has eval/return_mean"):
        save_curve(rows, tmp_path / "curve.png", "t")
    assert list(tmp_path.iterdir()) == []


def test_video_holds_every_frame_in_order(tmp_path):
    save_video(frames(12), tmp_path / "policy.mp4", fps=40)
    shown, about = read_video(tmp_path / "policy.mp4")
    assert len(shown) == 12
    assert about["codec"] == "h264"
    assert about["pix_fmt"].startswith("yuv420p")
    assert about["fps"] == 40
    assert about["source_size"] == (64, 48)
    right = [frame[:, 40:].mean() for frame in shown]
    np.testing.assert_allclose(right, 40 + 10 * np.arange(12), atol=6)
    assert shown[0][:, :24, 0].mean() > shown[0][:, :24, 2].mean() + 150  # red is not blue
    assert [file.name for file in tmp_path.iterdir()] == ["policy.mp4"]


def test_odd_sizes_grow_by_one(tmp_path):
    save_video(frames(3, height=47, width=63), tmp_path / "policy.mp4", fps=12.5)
    shown, about = read_video(tmp_path / "policy.mp4")
    assert about["source_size"] == (64, 48)
    assert about["fps"] == 12.5
    np.testing.assert_allclose(shown[1][-1, 40:], 50, atol=8)  # no black border


def failing_frames():
    yield from frames(2)
    raise RuntimeError("the renderer broke")


def uneven_frames():
    yield from frames(2)
    yield from frames(1, height=50)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (failing_frames(), "the renderer broke"),
        (uneven_frames(), r"frame 2 has shape \(50, 64, 3\), the first one \(48, 64, 3\)"),
        ((frame / 255.0 for frame in frames(1)), r"frame 0 is float64 .* not uint8"),
        (iter([]), "there is no frame"),
    ],
)
def test_a_failure_leaves_the_old_video(tmp_path, wrong, message):
    path = tmp_path / "policy.mp4"
    path.write_bytes(b"old")
    with pytest.raises((ValueError, RuntimeError), match=message):
        save_video(wrong, path, fps=40)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["policy.mp4"]


def test_what_ffmpeg_says_is_in_the_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"ffmpeg could not write .*: .+"):
        save_video(frames(200), tmp_path / "no folder" / "policy.mp4", fps=40)
