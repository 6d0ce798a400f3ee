"use strict";
// Plays a recorded rollout: orbit, play, pause, scrub, speed, by mouse, touch or keyboard.
const Playback = (() => {
  const { build, pose, css } = Rollout;
  const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];

  function part(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function controlsOf() {
    const stage = part("div", {
      class: "stage",
      tabindex: 0,
      role: "group",
      "aria-roledescription": "3-D playback",
    });
    const play = part("button", { type: "button", class: "button play" }, "Play");
    const time = part("input", { type: "range", min: 0, step: "any", value: 0, "aria-label": "Time" });
    const clock = part("output", {}, "");
    const speed = part(
      "select",
      { "aria-label": "Speed" },
      ...SPEEDS.map((s) => part("option", { value: s }, `${s}×`)),
    );
    speed.value = "1";
    const follow = part("input", { type: "checkbox" });
    const followLabel = part("label", {}, follow, " follow");
    const home = part("button", { type: "button", class: "button" }, "Reset view");
    const bar = part(
      "div",
      { class: "transport", role: "group", "aria-label": "Playback" },
      play,
      time,
      clock,
      speed,
      followLabel,
      home,
    );
    const hint = part(
      "p",
      { class: "hint muted" },
      "Drag to orbit, right-drag or two fingers to pan, scroll or pinch to zoom. With the keyboard: space plays, arrows orbit, + and − zoom.",
    );
    return { stage, play, time, clock, speed, follow, followLabel, home, bar, hint };
  }

  function create(container) {
    const ui = controlsOf();
    container.replaceChildren(ui.stage, ui.bar, ui.hint);
    let renderer;
    try {
      renderer = new THREE.WebGLRenderer({ antialias: true });
    } catch {
      ui.stage.append(part("p", {}, "The playback needs WebGL, which this browser does not offer."));
      ui.bar.hidden = true;
      return { open() {}, close() {}, shown: null };
    }
    renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    renderer.shadowMap.enabled = true;
    renderer.shadowMap.type = THREE.PCFShadowMap;
    ui.stage.append(renderer.domElement);
    const camera = new THREE.PerspectiveCamera(45, 1, 0.01, 1000);
    camera.up.set(0, 0, 1);
    const orbit = new THREE.OrbitControls(camera, renderer.domElement);
    const state = {
      built: null,
      recording: null,
      moment: 0,
      playing: false,
      last: 0,
      drawing: false,
      centre: new THREE.Vector3(),
    };

    const wake = () => {
      if (!state.drawing && state.built) {
        state.drawing = true;
        requestAnimationFrame(draw);
      }
    };

    function draw(now) {
      state.drawing = false;
      const { built, recording } = state;
      if (!built) return;
      if (state.playing) {
        state.moment += (Math.min(now - state.last, 100) / 1000) * recording.fps * Number(ui.speed.value);
        if (state.moment >= recording.frames - 1) state.moment = 0; // again from the start
      }
      state.last = now;
      pose(built, recording, state.moment);
      frame();
      renderer.render(built.scene, camera);
      if (state.playing) wake();
    }

    // The body that the camera follows pulls camera, target and light along.
    function frame() {
      const { built, recording, centre } = state;
      const followed = built.bodies.get(recording.camera.follow);
      if (followed) {
        const moved = followed.position.clone().sub(centre);
        if (ui.follow.checked) {
          camera.position.add(moved);
          orbit.target.add(moved);
        }
        centre.copy(followed.position);
      }
      orbit.update();
      const { sun } = built;
      sun.target.position.copy(followed ? centre : orbit.target);
      sun.position
        .copy(sun.target.position)
        .add(new THREE.Vector3(0.5, -0.45, 1.2).multiplyScalar(2 * built.reach));
      const seconds = Math.min(state.moment / recording.fps, recording.seconds);
      const reward = recording.returns[Math.min(Math.round(state.moment), recording.frames - 1)];
      ui.time.value = state.moment;
      ui.time.setAttribute("aria-valuetext", `${seconds.toFixed(1)} seconds`);
      ui.clock.textContent = `${seconds.toFixed(1)} / ${recording.seconds.toFixed(1)} s · return ${reward.toFixed(1)}`;
      container.dataset.moment = state.moment.toFixed(3);
    }

    function paint() {
      if (!state.built) return;
      const sky = new THREE.Color(css("--sky"));
      const { reach } = state.built;
      state.built.scene.background = sky;
      state.built.scene.fog = new THREE.Fog(sky, 3 * reach, 12 * reach);
      state.built.texture.paint();
      wake();
    }

    function resetView() {
      const { recording, centre, built } = state;
      const { position, target, follow } = recording.camera;
      camera.near = 0.01 * built.reach;
      camera.far = 60 * built.reach;
      camera.position.set(...position);
      orbit.target.set(...target);
      if (built.bodies.has(follow)) {
        pose(built, recording, 0);
        centre.copy(built.bodies.get(follow).position);
      }
      resize();
    }

    function resize() {
      const { clientWidth: width, clientHeight: height } = ui.stage;
      if (!width || !height) return;
      renderer.setSize(width, height, false);
      camera.aspect = width / height;
      const wider = Math.max(1, 4 / 3 / camera.aspect); // a narrow stage keeps what is seen sideways
      const half = Math.tan((state.recording ? state.recording.camera.fovy : 45) * (Math.PI / 360));
      camera.fov = Math.atan(half * wider) * (360 / Math.PI);
      camera.updateProjectionMatrix();
      wake();
    }

    function toggle(playing) {
      state.playing = playing;
      state.last = performance.now();
      ui.play.textContent = playing ? "Pause" : "Play";
      wake();
    }

    function turn(sideways, up, nearer) {
      const offset = camera.position.clone().sub(orbit.target);
      const flat = Math.hypot(offset.x, offset.y);
      const around = Math.atan2(offset.y, offset.x) + sideways;
      const height = Math.min(1.5, Math.max(-0.2, Math.atan2(offset.z, flat) + up));
      const distance = offset.length() * nearer;
      offset.set(Math.cos(height) * Math.cos(around), Math.cos(height) * Math.sin(around), Math.sin(height));
      camera.position.copy(orbit.target).addScaledVector(offset, distance);
      wake();
    }

    const KEYS = {
      ArrowLeft: [-0.1, 0, 1],
      ArrowRight: [0.1, 0, 1],
      ArrowUp: [0, 0.08, 1],
      ArrowDown: [0, -0.08, 1],
      "+": [0, 0, 0.9],
      "=": [0, 0, 0.9],
      "-": [0, 0, 1.1],
    };
    ui.stage.addEventListener("keydown", (event) => {
      if (event.key === " ") toggle(!state.playing);
      else if (KEYS[event.key]) turn(...KEYS[event.key]);
      else return;
      event.preventDefault();
    });
    ui.play.addEventListener("click", () => toggle(!state.playing));
    ui.time.addEventListener("input", () => {
      state.moment = Number(ui.time.value);
      wake();
    });
    ui.home.addEventListener("click", resetView);
    orbit.addEventListener("change", wake);
    new ResizeObserver(resize).observe(ui.stage);
    document.addEventListener("themechange", paint);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

    function close() {
      toggle(false);
      if (state.built) {
        state.built.scene.traverse((node) => {
          if (node.geometry) node.geometry.dispose();
          if (node.material) node.material.dispose();
        });
        state.built.texture.dispose();
        renderer.clear();
      }
      state.built = null;
      ui.bar.hidden = true;
      container.hidden = true;
    }

    function open({ name, recording }) {
      close();
      container.hidden = ui.bar.hidden = false;
      state.recording = recording;
      state.built = build(recording);
      state.moment = 0;
      ui.time.max = recording.frames - 1;
      const follows = recording.camera.follow >= 0;
      ui.follow.checked = follows;
      ui.followLabel.hidden = !follows;
      ui.stage.setAttribute("aria-label", `${name}: one episode of ${recording.seconds.toFixed(1)} s`);
      resetView();
      paint();
    }

    return { open, close, shown: null };
  }

  return { create };
})();
