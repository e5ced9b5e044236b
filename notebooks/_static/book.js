// Formulas, and pictures that move; what draws them is loaded only by a page that has them.
//
// A <div class="moving"> brings its data as JSON and names a static figure. Here it takes the place
// of that figure's picture, which stays for readers without scripts and for print.
(() => {
  const root = document.documentElement.dataset.content_root || "./";
  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  const number = (value) => value.toPrecision(3).replace("-", "\u2212");

  function load(script) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      Object.assign(element, { src: script, onload: resolve, onerror: reject });
      document.head.append(element);
    });
  }

  function hasWebGL() {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }

  // Of the faces of a cube, by the direction in which they look.
  const SHADES = ["#8ccdf1", "#56b4e9", "#2f82b3"];

  // The surface of the union of unit cubes around the points of steps 0 to `step`: one square, as
  // two triangles, wherever a point that is in has a neighbour that is not.
  function surface(data, step) {
    const [C, H, W] = data.shape;
    const inside = (c, h, w) =>
      c >= 0 && h >= 0 && w >= 0 && c < C && h < H && w < W &&
      data.levels[(c * H + h) * W + w] <= step;
    const corner = (c, h, w) => (c * (H + 1) + h) * (W + 1) + w;
    const faces = { i: [], j: [], k: [], facecolor: [] };
    const square = (colour, a, b, c, d) => {
      faces.i.push(a, a); faces.j.push(b, c); faces.k.push(c, d);
      faces.facecolor.push(colour, colour);
    };
    for (let c = 0; c <= C; c++) for (let h = 0; h <= H; h++) for (let w = 0; w <= W; w++) {
      const here = inside(c, h, w), from = corner(c, h, w);
      if (here !== inside(c - 1, h, w))
        square(SHADES[0], from, corner(c, h + 1, w), corner(c, h + 1, w + 1), corner(c, h, w + 1));
      if (here !== inside(c, h - 1, w))
        square(SHADES[1], from, corner(c + 1, h, w), corner(c + 1, h, w + 1), corner(c, h, w + 1));
      if (here !== inside(c, h, w - 1))
        square(SHADES[2], from, corner(c + 1, h, w), corner(c + 1, h + 1, w), corner(c, h + 1, w));
    }
    return faces;
  }

  function corners(shape) {
    const [C, H, W] = shape;
    const at = { x: [], y: [], z: [] };
    for (let c = 0; c <= C; c++) for (let h = 0; h <= H; h++) for (let w = 0; w <= W; w++) {
      at.x.push(w - 0.5); at.y.push(h - 0.5); at.z.push(c - 0.5);
    }
    return at;
  }

  function sublevelSets(div, data) {
    const controls = document.createElement("div");
    controls.className = "moving-controls";
    controls.innerHTML =
      '<label>threshold \u03b7 <input type="range" min="0" step="1"></label>' +
      '<output aria-live="polite"></output>';
    div.prepend(controls);
    const [input, output] = [controls.querySelector("input"), controls.querySelector("output")];
    input.max = data.etas.length - 1;
    input.value = data.start;
    const scene = div.querySelector(".moving-scene");
    const draws = scene && window.Plotly;
    const show = () => {
      const step = Number(input.value);
      const [b0, b1, b2] = data.betti[step];
      const eta = number(data.etas[step]);
      output.textContent =
        `\u03b7 = ${eta}: \u03b2\u2080 = ${b0}, \u03b2\u2081 = ${b1}, \u03b2\u2082 = ${b2}, ` +
        `\u03a9 = ${b0 + b1 + b2}`;
      input.setAttribute("aria-valuetext", `\u03b7 = ${eta}`);
      if (!draws) return;
      const mesh = {
        type: "mesh3d", hoverinfo: "skip",
        lighting: { ambient: 1, diffuse: 0, specular: 0, fresnel: 0 },
        ...corners(data.shape), ...surface(data, step),
      };
      const axis = (title, size) => ({
        title: { text: title }, range: [-0.5, size - 0.5], showticklabels: false, showspikes: false,
      });
      const layout = {
        margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "white", uirevision: "kept",
        scene: {
          xaxis: axis("column", data.shape[2]), yaxis: axis("row", data.shape[1]),
          zaxis: axis("channel", data.shape[0]), aspectmode: "data",
          camera: { eye: { x: 1.3, y: -1.5, z: 0.9 } },
        },
      };
      window.Plotly.react(scene, [mesh], layout, config);
    };
    input.addEventListener("input", show);
    show();
  }

  function curves(div, data) {
    const scene = div.querySelector(".moving-scene");
    // On a phone the axis' title would be longer than the axis.
    if (scene.clientWidth < 480) data.layout.font.size = 10;
    window.Plotly.newPlot(scene, data.data, data.layout, config);
  }

  async function start() {
    // Sphinx would load it on the first page, too, for the sake of the others (see _config.yml).
    const mathjax = document.getElementById("mathjax");
    if (mathjax && document.querySelector(".math")) load(mathjax.getAttribute("src"));

    const all = [...document.querySelectorAll("div.moving")];
    if (!all.length) return;
    await load(root + "plotly/plotly.min.js");
    for (const div of all) {
      const data = JSON.parse(div.querySelector("script").textContent);
      const picture = document.getElementById(div.dataset.figure)?.querySelector("img");
      if (data.kind === "curves" || hasWebGL()) {
        const scene = document.createElement("div");
        scene.className = "moving-scene";
        scene.setAttribute("role", "img");
        scene.setAttribute("aria-label", picture?.alt || "");
        div.append(scene);
        if (picture) {
          picture.classList.add("moving-still");
          picture.before(div);
        }
      } else if (picture) picture.after(div);
      div.classList.add("moving-drawn"); // first, since what is hidden has no width to draw in
      (data.kind === "curves" ? curves : sublevelSets)(div, data);
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
