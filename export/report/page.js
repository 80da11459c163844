// Three views of one sphere that always look the same way. Each view shows a canvas, so that its picture can be
// exchanged without losing the heading. Without a viewer the canvases themselves are shown, flat.
const scene = JSON.parse(document.getElementById("scene").textContent);
const heading = document.getElementById("heading");
const FIELD = { least: 20, most: 100, first: 60 }; // vertical field of view, degrees
const STEP = 5; // of an arrow key in degrees, of + and - in percent of the zoom

const pictures = {};
await Promise.all(Object.entries(scene.pictures).map(async ([name, address]) => {
  pictures[name] = new Image();
  pictures[name].src = address;
  await pictures[name].decode();
}));
for (const image of document.querySelectorAll("img[data-src]")) image.src = scene.pictures[image.dataset.src];

const draw = (canvas, name) => {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false; // LR pixels stay visible
  const picture = pictures[name];
  if (name === "lr") context.drawImage(picture, 0, 0, picture.width * scene.scale, picture.height * scene.scale);
  else context.drawImage(picture, 0, 0, canvas.width, canvas.height);
};

const panes = [...document.querySelectorAll(".pane")].map((element) => {
  const canvas = document.createElement("canvas");
  canvas.width = scene.width;
  canvas.height = scene.height;
  draw(canvas, element.dataset.picture);
  return { element, canvas };
});

const buttons = [...document.querySelectorAll("button[data-show]")];
for (const button of buttons) {
  button.addEventListener("click", () => {
    const pane = panes[2];
    draw(pane.canvas, button.dataset.show);
    pane.element.dataset.picture = button.dataset.show;
    pane.changed?.();
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
  });
}

const turnTogether = async () => {
  const { EquirectangularAdapter, Viewer } = await import("@photo-sphere-viewer/core");
  const { CanvasTexture, LinearFilter } = await import("three");

  const textures = new Map(); // of canvases
  class CanvasAdapter extends EquirectangularAdapter {
    async loadTexture(canvas) {
      const texture = new CanvasTexture(canvas);
      texture.minFilter = LinearFilter;
      texture.generateMipmaps = false;
      textures.set(canvas, texture);
      const { width, height } = canvas;
      const panoData = {
        isEquirectangular: true, fullWidth: width, fullHeight: height, croppedWidth: width, croppedHeight: height,
        croppedX: 0, croppedY: 0, poseHeading: 0, posePitch: 0, poseRoll: 0,
      };
      return { panorama: canvas, texture, panoData };
    }
  }

  await Promise.all(panes.map((pane) => new Promise((ready) => {
    const container = pane.element.querySelector(".view");
    container.tabIndex = 0;
    pane.viewer = new Viewer({
      container, adapter: CanvasAdapter, panorama: pane.canvas, navbar: false, keyboard: false, loadingTxt: "",
      minFov: FIELD.least, maxFov: FIELD.most, defaultTransition: null, moveInertia: false,
      defaultZoomLvl: (100 * (FIELD.most - FIELD.first)) / (FIELD.most - FIELD.least),
    });
    pane.viewer.addEventListener("ready", ready, { once: true });
    pane.changed = () => {
      textures.get(pane.canvas).needsUpdate = true;
      pane.viewer.needsUpdate();
    };
  })));

  // Whoever was touched last leads; the others follow in every frame.
  let leader = panes[0];
  const degrees = (angle) => (angle * 180) / Math.PI;
  for (const pane of panes) {
    for (const event of ["pointerdown", "wheel", "keydown", "touchstart"]) {
      pane.element.addEventListener(event, () => { leader = pane; }, { capture: true, passive: true });
    }
    pane.element.querySelector(".view").addEventListener("keydown", (event) => {
      const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      const zoom = { "+": 1, "-": -1 }[event.key];
      if (!turn && !zoom) return;
      event.preventDefault();
      const { yaw, pitch } = pane.viewer.getPosition();
      const step = (STEP * Math.PI) / 180;
      if (turn) pane.viewer.rotate({ yaw: yaw + turn[0] * step, pitch: pitch + turn[1] * step });
      else pane.viewer.zoom(pane.viewer.getZoomLevel() + zoom * STEP);
    });
  }
  const follow = () => {
    const position = leader.viewer.getPosition();
    const zoom = leader.viewer.getZoomLevel();
    for (const pane of panes) {
      if (pane !== leader) {
        const own = pane.viewer.getPosition();
        if (pane.viewer.getZoomLevel() !== zoom) pane.viewer.zoom(zoom);
        if (own.yaw !== position.yaw || own.pitch !== position.pitch) pane.viewer.rotate(position);
      }
      const { yaw, pitch } = pane.viewer.getPosition();
      pane.element.dataset.yaw = (((degrees(yaw) + 180) % 360) - 180).toFixed(2);
      pane.element.dataset.pitch = degrees(pitch).toFixed(2);
      pane.element.dataset.hfov = pane.viewer.state.hFov.toFixed(2);
    }
    const { yaw, pitch, hfov } = leader.element.dataset;
    heading.value = `yaw ${Number(yaw).toFixed(0)}°, pitch ${Number(pitch).toFixed(0)}°, field ${Number(hfov).toFixed(0)}°`;
    requestAnimationFrame(follow);
  };
  requestAnimationFrame(follow);
};

if (scene.viewer) await turnTogether();
else for (const pane of panes) pane.element.querySelector(".view").append(pane.canvas);
document.body.dataset.ready = "true";
