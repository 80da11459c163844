// Three views of one sphere that always look the same way. Each view shows a canvas, so that its picture can be
// exchanged without losing the heading.
(async () => {
  "use strict";
  const scene = JSON.parse(document.getElementById("scene").textContent);
  const heading = document.getElementById("heading");

  const load = async (address) => {
    const image = new Image();
    image.src = address;
    await image.decode();
    return image;
  };
  const pictures = {};
  await Promise.all(Object.entries(scene.pictures).map(async ([name, address]) => { pictures[name] = await load(address); }));
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
    const viewer = pannellum.viewer(element.querySelector(".view"), {
      type: "equirectangular",
      panorama: canvas,
      dynamic: true,
      autoLoad: true,
      showControls: false,
      hfov: 90,
      minHfov: 20,
      maxHfov: 120,
    });
    viewer.setUpdate(true); // uploads the canvas with every frame,
    viewer.on("load", () => viewer.setUpdate(false)); // which once is enough
    return { element, canvas, viewer };
  });

  const show = (pane, name) => {
    draw(pane.canvas, name);
    pane.element.dataset.picture = name;
    pane.viewer.setUpdate(true);
    setTimeout(() => pane.viewer.setUpdate(false), 200);
  };
  const buttons = [...document.querySelectorAll("button[data-show]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      show(panes[2], button.dataset.show);
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    });
  }

  // Whoever was touched last leads; the others follow in every frame, also while the leader glides to a stop.
  let leader = panes[0];
  for (const pane of panes) {
    for (const event of ["pointerdown", "wheel", "keydown", "touchstart"]) {
      pane.element.addEventListener(event, () => { leader = pane; }, { capture: true, passive: true });
    }
  }
  const follow = () => {
    const [yaw, pitch, hfov] = [leader.viewer.getYaw(), leader.viewer.getPitch(), leader.viewer.getHfov()];
    for (const pane of panes) {
      if (pane !== leader) {
        if (pane.viewer.getHfov() !== hfov) pane.viewer.setHfov(hfov, false);
        if (pane.viewer.getPitch() !== pitch) pane.viewer.setPitch(pitch, false);
        if (pane.viewer.getYaw() !== yaw) pane.viewer.setYaw(yaw, false);
      }
      pane.element.dataset.yaw = pane.viewer.getYaw().toFixed(2);
      pane.element.dataset.pitch = pane.viewer.getPitch().toFixed(2);
      pane.element.dataset.hfov = pane.viewer.getHfov().toFixed(2);
    }
    heading.value = `yaw ${yaw.toFixed(0)}°, pitch ${pitch.toFixed(0)}°, field ${hfov.toFixed(0)}°`;
    requestAnimationFrame(follow);
  };
  requestAnimationFrame(follow);
  document.body.dataset.ready = "true";
})();
