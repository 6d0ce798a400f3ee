#!/usr/bin/env bash
# Bundles what the playback uses of three.js into jaxrl/report/assets/three.min.js. Needs node and npm.
set -euo pipefail
assets=$(cd "$(dirname "$0")/../jaxrl/report/assets" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
npm install --silent --no-audit --no-fund three@0.187.0 esbuild@0.28.2
cat >entry.js <<'ENTRY'
export {
  BoxGeometry, BufferAttribute, BufferGeometry, CanvasTexture, CapsuleGeometry, Color,
  CylinderGeometry, DirectionalLight, DoubleSide, Fog, Group, HemisphereLight, Mesh,
  MeshLambertMaterial, MeshStandardMaterial, PCFShadowMap, PerspectiveCamera, PlaneGeometry,
  Quaternion, RepeatWrapping, Scene, SphereGeometry, SRGBColorSpace, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
ENTRY
npx esbuild entry.js --bundle --minify --format=iife --global-name=THREE --legal-comments=eof \
  --log-level=warning --outfile="$assets/three.min.js"
