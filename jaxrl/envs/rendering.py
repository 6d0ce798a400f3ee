"""Pictures of a state by MuJoCo's renderer, without a display.

An OpenGL context is made here rather than by `mujoco.Renderer`, whose backend is fixed by
MUJOCO_GL when mujoco is first imported, which may have been long ago and without one. The variable
is respected where it is set; otherwise OSMesa is tried, then EGL, then a display's GLFW. OpenGL is
first touched when a picture is asked for.
"""

from __future__ import annotations

import atexit
import copy
import ctypes
import os
import platform
import threading
from collections import OrderedDict
from typing import Protocol

import mujoco
import numpy as np

from jaxrl.envs.task import Physics

OSMESA_LIBRARIES = ("libOSMesa.so.8", "libOSMesa.so", "libOSMesa.so.6")
EGL_LIBRARIES = ("libEGL.so.1",)
ADVICE = (
    "install the system package libosmesa6 or libegl1 "
    "(Debian/Ubuntu: apt-get install libosmesa6), or set MUJOCO_GL"
)

MAX_GEOMS = 10_000
"""Room for drawn shapes in a scene, as in `mujoco.Renderer`."""
CACHED = 4
"""Renderers kept; making a context takes about half a second."""


class RenderingUnavailable(RuntimeError):
    """No OpenGL context could be made. The message is one line and names the way out."""


class GLContext(Protocol):
    """An OpenGL context of some backend."""

    def make_current(self) -> None:
        """Makes it the calling thread's context."""

    def free(self) -> None:
        """Destroys it."""


class OSMesaContext:
    """A software OpenGL context, straight from the C library.

    `mujoco.osmesa` goes through PyOpenGL, which serves one platform per process: once a package
    such as dm_control has chosen EGL, it cannot be imported any more. MuJoCo itself finds the
    library's functions in the process, hence RTLD_GLOBAL.
    """

    RGBA, UNSIGNED_BYTE = 0x1908, 0x1401  # GL_RGBA, GL_UNSIGNED_BYTE
    SIZE = 16  # pixels; pictures are drawn in MuJoCo's own framebuffer

    def __init__(self, library: ctypes.CDLL):
        create, current = library.OSMesaCreateContextExt, library.OSMesaMakeCurrent
        create.restype, create.argtypes = ctypes.c_void_p, [ctypes.c_int] * 4 + [ctypes.c_void_p]
        current.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, *[ctypes.c_int] * 2]
        library.OSMesaDestroyContext.argtypes = [ctypes.c_void_p]
        library.OSMesaDestroyContext.restype = None
        self._library = library
        self._buffer = (ctypes.c_ubyte * (self.SIZE * self.SIZE * 4))()
        self._context = create(self.RGBA, 24, 8, 0, None)  # bits of depth, stencil, accumulation
        if not self._context:
            raise RuntimeError("OSMesaCreateContextExt failed")

    def make_current(self) -> None:
        """Makes it the calling thread's context."""
        size = (self.UNSIGNED_BYTE, self.SIZE, self.SIZE)
        if not self._library.OSMesaMakeCurrent(self._context, self._buffer, *size):
            raise RuntimeError("OSMesaMakeCurrent failed")

    def free(self) -> None:
        """Destroys it."""
        if self._context:
            self._library.OSMesaDestroyContext(self._context)
        self._context = None


class _Renderer:
    """One model at one picture size: context, scene and an own `MjData`."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        self.alive = False
        self.source = model  # held, so that its id is not taken by another
        self.model = copy.copy(model)
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = width, height
        self.data = mujoco.MjData(self.model)
        self.gl, self.context = _open(self.model)
        self.alive = True
        self.scene = mujoco.MjvScene(self.model, MAX_GEOMS)
        self.option = mujoco.MjvOption()
        self.camera = mujoco.MjvCamera()
        if model.ncam:
            self.camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self.camera.fixedcamid = 0
        else:
            mujoco.mjv_defaultFreeCamera(self.model, self.camera)
        self.area = mujoco.MjrRect(0, 0, width, height)

    def picture(self, physics: Physics) -> np.ndarray:
        """The state drawn, [height, width, 3] uint8."""
        data = self.data
        for name in ("qpos", "qvel", "act", "mocap_pos", "mocap_quat"):
            value, target = np.asarray(getattr(physics, name)), getattr(data, name)
            if value.shape != target.shape:
                raise ValueError(
                    f"cannot draw a state whose {name} has shape {value.shape}, not "
                    f"{target.shape}: pass one instance of a batch, of this model"
                )
            target[:] = value
        data.time = float(physics.time)
        mujoco.mj_forward(self.model, data)
        self.gl.make_current()
        mujoco.mjv_updateScene(
            self.model, data, self.option, None, self.camera, mujoco.mjtCatBit.mjCAT_ALL, self.scene
        )
        mujoco.mjr_render(self.area, self.scene, self.context)
        pixels = np.empty((self.area.height, self.area.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self.area, self.context)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Frees the context. Only from the thread that made it."""
        if self.alive:
            self.alive = False
            self.gl.make_current()  # or MuJoCo frees the same numbers in another context
            self.context.free()
            self.gl.free()

    def __del__(self) -> None:
        self.close()  # a thread's cache goes with the thread


class _Cache(threading.local):
    """A thread's renderers, the last used last. A context is current in one thread at a time."""

    def __init__(self) -> None:
        self.renderers: OrderedDict[tuple[int, int, int], _Renderer] = OrderedDict()

    def get(self, model: mujoco.MjModel, width: int, height: int) -> _Renderer:
        """The renderer of this model and size, made if there is none."""
        key = (id(model), width, height)
        if key not in self.renderers:
            renderer = _Renderer(model, width, height)
            self.close(keep=CACHED - 1)
            self.renderers[key] = renderer
            # At exit, ours must run before what the OpenGL libraries registered up to now.
            atexit.unregister(self.close)
            atexit.register(self.close)
        self.renderers.move_to_end(key)
        return self.renderers[key]

    def close(self, keep: int = 0) -> None:
        """Closes the calling thread's renderers but for the `keep` last used."""
        while len(self.renderers) > keep:
            self.renderers.popitem(last=False)[1].close()


_cache = _Cache()
_lock = threading.Lock()


def render(model: mujoco.MjModel, physics: Physics, width: int, height: int) -> np.ndarray:
    """Draws one instance through the model's first camera, or a free one where it has none.

    Args:
      model: of the environment; neither it nor any simulation of it is touched.
      physics: unbatched state.
      width: pixels.
      height: pixels.

    Returns:
      The picture, [height, width, 3] uint8, top row first.

    Raises:
      RenderingUnavailable: no OpenGL context could be made.
      ValueError: a batched state, another model's state, or a size below 1.
    """
    if width < 1 or height < 1:
        raise ValueError(f"cannot draw a picture of {width} x {height} pixels")
    with _lock:
        return _cache.get(model, width, height).picture(physics)


def _open(model: mujoco.MjModel) -> tuple[GLContext, mujoco.MjrContext]:
    """A current OpenGL context and MuJoCo's resources in it, from the first backend that works."""
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    reasons = []
    for name in _backends(chosen):
        gl: GLContext | None = None
        try:
            gl = _context(name, model)
            gl.make_current()
            context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
            return gl, context
        except Exception as error:  # each library fails in its own way, with its own types
            reasons.append(f"{name}: {' '.join(str(error).split())}")
            if gl is not None:
                gl.free()
    why = "; ".join(reasons) or "which turns rendering off"
    what = (
        f"cannot render with MUJOCO_GL={chosen}" if chosen else "rendering needs an OpenGL library"
    )
    raise RenderingUnavailable(f"{what} ({why}): {ADVICE}")


def _backends(chosen: str) -> list[str]:
    """Backends to try in order, for a value of MUJOCO_GL ("" where it is not set)."""
    if chosen in ("disable", "disabled", "off", "false", "0"):
        return []
    if platform.system() != "Linux":
        return ["mujoco's default"]
    if chosen in ("osmesa", "egl"):
        return [chosen]
    if chosen:
        return ["glfw"]
    # MuJoCo's OpenGL functions are the process's last opened library's: prefer one in use.
    in_use = os.environ.get("PYOPENGL_PLATFORM")
    backends = sorted(("osmesa", "egl"), key=lambda name: name != in_use)
    on_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return [*backends, "glfw"] if on_display else backends


def _context(backend: str, model: mujoco.MjModel) -> GLContext:
    """A context of the named backend; raises what the backend raises."""
    if backend == "osmesa":
        return OSMesaContext(_load(OSMESA_LIBRARIES))
    width, height = model.vis.global_.offwidth, model.vis.global_.offheight
    if backend == "egl":
        _load(EGL_LIBRARIES)  # a missing library must not reach PyOpenGL, which would fix on EGL
        from mujoco import egl

        return egl.GLContext(width, height)
    if backend == "glfw":
        from mujoco import glfw

        return glfw.GLContext(width, height)
    return mujoco.GLContext(width, height)


def _load(names: tuple[str, ...]) -> ctypes.CDLL:
    """The first of these shared libraries that loads, visible to all of the process."""
    for name in names:
        try:
            return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
    raise OSError(f"{names[0]} cannot be loaded")
