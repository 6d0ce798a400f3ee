"use strict";
// A recorded rollout in three dimensions, drawn from the model's own shapes. The format is that of
// jaxrl.train.playback. Lengths are metres, z is up, rotations are (w, x, y, z).
const Playback = (() => {
  const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
  const UNIT = 512; // cells of an infinite plane; it ends beyond the fog

  function numbers(text, Type) {
    const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Type(raw.buffer, 0, raw.byteLength / Type.BYTES_PER_ELEMENT);
  }

  function restored({ data, offset, step }) {
    const integers = numbers(data, Int16Array);
    return Float32Array.from(integers, (v, i) => offset[i % 3] + step[i % 3] * v);
  }

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // ---- shapes

  function geometry(shape, meshes) {
    const [a, b, c] = shape.size;
    switch (shape.kind) {
      case "sphere": return new THREE.SphereGeometry(a, 32, 20);
      case "ellipsoid": return new THREE.SphereGeometry(1, 32, 20).scale(a, b, c);
      case "capsule": return new THREE.CapsuleGeometry(a, 2 * b, 12, 28).rotateX(Math.PI / 2);
      case "cylinder": return new THREE.CylinderGeometry(a, a, 2 * b, 36).rotateX(Math.PI / 2);
      case "box": return new THREE.BoxGeometry(2 * a, 2 * b, 2 * c);
      default: return triangles(meshes[shape.mesh]);
    }
  }

  function triangles(mesh) {
    const made = new THREE.BufferGeometry();
    made.setAttribute("position", new THREE.BufferAttribute(restored(mesh.vertices), 3));
    made.setIndex(new THREE.BufferAttribute(numbers(mesh.faces, Uint32Array), 1));
    made.computeVertexNormals();
    return made;
  }

  function plane(shape, cell, texture) {
    const width = shape.size[0] ? 2 * shape.size[0] : 2 * cell * UNIT;
    const height = shape.size[1] ? 2 * shape.size[1] : 2 * cell * UNIT;
    const made = new THREE.PlaneGeometry(width, height);
    const at = made.attributes.uv;
    const position = made.attributes.position;
    for (let i = 0; i < at.count; i++) at.setXY(i, position.getX(i) / (2 * cell), position.getY(i) / (2 * cell));
    return new THREE.Mesh(made, new THREE.MeshLambertMaterial({ map: texture }));
  }

  // Two by two cells in the page's colours.
  function checks() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 128;
    const texture = new THREE.CanvasTexture(canvas);
    texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
    texture.colorSpace = THREE.SRGBColorSpace;
    texture.anisotropy = 8;
    texture.paint = () => {
      const pen = canvas.getContext("2d");
      pen.fillStyle = css("--ground-a");
      pen.fillRect(0, 0, 128, 128);
      pen.fillStyle = css("--ground-b");
      pen.fillRect(0, 0, 64, 64);
      pen.fillRect(64, 64, 64, 64);
      texture.needsUpdate = true;
    };
    return texture;
  }

  // Distance from the camera to what it looks at; lengths of light and fog follow from it.
  function reachOf({ position, target }) {
    return Math.hypot(...position.map((v, i) => v - target[i]));
  }

  // Pattern size: a round length, a fraction of what is seen.
  function cellSize(reach) {
    const raw = reach / 6;
    const power = 10 ** Math.floor(Math.log10(raw));
    return [1, 2, 5, 10].map((m) => m * power).find((v) => v >= raw);
  }

  // ---- one recording as a scene

  function build(recording) {
    const scene = new THREE.Scene();
    const bodies = new Map();
    const texture = checks();
    const reach = reachOf(recording.camera);
    const body = (id) => {
      if (!bodies.has(id)) {
        const group = new THREE.Group();
        const still = recording.still[id];
        if (still) place(group, still, 0);
        bodies.set(id, group);
        scene.add(group);
      }
      return bodies.get(id);
    };
    for (const shape of recording.geoms) {
      const made = shape.kind === "plane" ? plane(shape, cellSize(reach), texture) : solid(shape, recording.meshes);
      made.position.set(...shape.pos);
      made.quaternion.set(shape.quat[1], shape.quat[2], shape.quat[3], shape.quat[0]);
      made.castShadow = shape.kind !== "plane";
      made.receiveShadow = true;
      body(shape.body).add(made);
    }
    const tendons = recording.tendons.map((tendon) => {
      const made = new THREE.Mesh(new THREE.CylinderGeometry(tendon.width, tendon.width, 1, 10).rotateX(Math.PI / 2), surface(tendon.rgba));
      scene.add(made);
      return { made, ends: tendon.ends.map(([id, at]) => ({ body: body(id), at: new THREE.Vector3(...at) })) };
    });
    const sky = new THREE.HemisphereLight(0xffffff, 0x8a8f98, 1.7);
    sky.position.set(0, 0, 1);
    const sun = new THREE.DirectionalLight(0xffffff, 2.1);
    sun.castShadow = true;
    sun.shadow.mapSize.set(2048, 2048);
    sun.shadow.normalBias = 0.002 * reach;
    Object.assign(sun.shadow.camera, { left: -reach, right: reach, top: reach, bottom: -reach, near: 0.1 * reach, far: 6 * reach });
    scene.add(sky, sun, sun.target);
    return { scene, bodies, tendons, texture, sun, reach, positions: restored(recording.positions), rotations: numbers(recording.rotations, Int16Array) };
  }

  function surface(rgba) {
    const [r, g, b, a] = rgba;
    const colour = new THREE.Color().setRGB(r, g, b, THREE.SRGBColorSpace);
    return new THREE.MeshStandardMaterial({ color: colour, opacity: a, transparent: a < 1, depthWrite: a >= 1, roughness: 0.65, metalness: 0.05 });
  }

  function solid(shape, meshes) {
    const made = new THREE.Mesh(geometry(shape, meshes), surface(shape.rgba));
    if (shape.kind === "mesh") made.material.side = THREE.DoubleSide;
    return made;
  }

  function place(group, pose, at) {
    group.position.set(pose[at], pose[at + 1], pose[at + 2]);
    group.quaternion.set(pose[at + 4], pose[at + 5], pose[at + 6], pose[at + 3]);
  }

  // Poses at a moment between two frames.
  function pose(built, recording, moment) {
    const last = recording.frames - 1;
    const i = Math.min(Math.floor(moment), last);
    const j = Math.min(i + 1, last);
    const share = moment - i;
    const count = recording.moving.length;
    const [q, r] = [new THREE.Quaternion(), new THREE.Quaternion()];
    recording.moving.forEach((id, k) => {
      const group = built.bodies.get(id);
      const [a, b] = [(i * count + k) * 3, (j * count + k) * 3];
      const p = built.positions;
      const mix = (d) => p[a + d] + share * (p[b + d] - p[a + d]);
      group.position.set(mix(0), mix(1), mix(2));
      const turn = (into, at) => into.set(built.rotations[at + 1], built.rotations[at + 2], built.rotations[at + 3], built.rotations[at]).normalize();
      group.quaternion.copy(turn(q, (i * count + k) * 4)).slerp(turn(r, (j * count + k) * 4), share);
    });
    built.scene.updateMatrixWorld(true);
    for (const { made, ends } of built.tendons) {
      const [a, b] = ends.map((end) => end.body.localToWorld(end.at.clone()));
      made.position.copy(a).add(b).multiplyScalar(0.5);
      made.scale.z = Math.max(a.distanceTo(b), 1e-6);
      made.lookAt(b);
    }
  }

  // ---- the player

  function part(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function controlsOf() {
    const stage = part("div", { class: "stage", tabindex: 0, role: "group", "aria-roledescription": "3-D playback" });
    const play = part("button", { type: "button", class: "button play" }, "Play");
    const time = part("input", { type: "range", min: 0, step: "any", value: 0, "aria-label": "Time" });
    const clock = part("output", {}, "");
    const speed = part("select", { "aria-label": "Speed" }, ...SPEEDS.map((s) => part("option", { value: s }, `${s}×`)));
    speed.value = "1";
    const follow = part("input", { type: "checkbox" });
    const followLabel = part("label", {}, follow, " follow");
    const home = part("button", { type: "button", class: "button" }, "Reset view");
    const bar = part("div", { class: "transport", role: "group", "aria-label": "Playback" }, play, time, clock, speed, followLabel, home);
    const hint = part("p", { class: "hint muted" }, "Drag to orbit, right-drag or two fingers to pan, scroll or pinch to zoom. With the keyboard: space plays, arrows orbit, + and − zoom.");
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
    const state = { built: null, recording: null, moment: 0, playing: false, last: 0, drawing: false, centre: new THREE.Vector3() };

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
      sun.position.copy(sun.target.position).add(new THREE.Vector3(0.5, -0.45, 1.2).multiplyScalar(2 * built.reach));
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

    const KEYS = { ArrowLeft: [-0.1, 0, 1], ArrowRight: [0.1, 0, 1], ArrowUp: [0, 0.08, 1], ArrowDown: [0, -0.08, 1], "+": [0, 0, 0.9], "=": [0, 0, 0.9], "-": [0, 0, 1.1] };
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
