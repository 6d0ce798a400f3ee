"use strict";
// A recorded rollout as a scene of three.js, from the model's own shapes. The format is that of
// jaxrl.train.playback. Lengths are metres, z is up, rotations are (w, x, y, z).
const Rollout = (() => {
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
      case "sphere":
        return new THREE.SphereGeometry(a, 32, 20);
      case "ellipsoid":
        return new THREE.SphereGeometry(1, 32, 20).scale(a, b, c);
      case "capsule":
        return new THREE.CapsuleGeometry(a, 2 * b, 12, 28).rotateX(Math.PI / 2);
      case "cylinder":
        return new THREE.CylinderGeometry(a, a, 2 * b, 36).rotateX(Math.PI / 2);
      case "box":
        return new THREE.BoxGeometry(2 * a, 2 * b, 2 * c);
      default:
        return triangles(meshes[shape.mesh]);
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
    // A thousandth larger: an edge exactly below the camera, w = 0, is drawn wrong by some drivers.
    const width = 2.002 * (shape.size[0] || cell * UNIT);
    const height = 2.002 * (shape.size[1] || cell * UNIT);
    const made = new THREE.PlaneGeometry(width, height);
    const at = made.attributes.uv;
    const position = made.attributes.position;
    for (let i = 0; i < at.count; i++)
      at.setXY(i, position.getX(i) / (2 * cell), position.getY(i) / (2 * cell));
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
      const made =
        shape.kind === "plane" ? plane(shape, cellSize(reach), texture) : solid(shape, recording.meshes);
      made.position.set(...shape.pos);
      made.quaternion.set(shape.quat[1], shape.quat[2], shape.quat[3], shape.quat[0]);
      made.castShadow = shape.kind !== "plane";
      made.receiveShadow = true;
      body(shape.body).add(made);
    }
    const tendons = recording.tendons.map((tendon) => {
      const made = new THREE.Mesh(
        new THREE.CylinderGeometry(tendon.width, tendon.width, 1, 10).rotateX(Math.PI / 2),
        surface(tendon.rgba),
      );
      scene.add(made);
      return {
        made,
        ends: tendon.ends.map(([id, at]) => ({ body: body(id), at: new THREE.Vector3(...at) })),
      };
    });
    const sky = new THREE.HemisphereLight(0xffffff, 0x8a8f98, 1.7);
    sky.position.set(0, 0, 1);
    const sun = new THREE.DirectionalLight(0xffffff, 2.1);
    sun.castShadow = true;
    sun.shadow.mapSize.set(2048, 2048);
    sun.shadow.normalBias = 0.002 * reach;
    Object.assign(sun.shadow.camera, {
      left: -reach,
      right: reach,
      top: reach,
      bottom: -reach,
      near: 0.1 * reach,
      far: 6 * reach,
    });
    scene.add(sky, sun, sun.target);
    return {
      scene,
      bodies,
      tendons,
      texture,
      sun,
      reach,
      positions: restored(recording.positions),
      rotations: numbers(recording.rotations, Int16Array),
    };
  }

  function surface(rgba) {
    const [r, g, b, a] = rgba;
    const colour = new THREE.Color().setRGB(r, g, b, THREE.SRGBColorSpace);
    return new THREE.MeshStandardMaterial({
      color: colour,
      opacity: a,
      transparent: a < 1,
      depthWrite: a >= 1,
      roughness: 0.65,
      metalness: 0.05,
    });
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
      const turn = (into, at) =>
        into
          .set(built.rotations[at + 1], built.rotations[at + 2], built.rotations[at + 3], built.rotations[at])
          .normalize();
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

  return { build, pose, css };
})();
