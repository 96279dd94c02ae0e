"use strict";
// Draws the samples of this page. Every array comes as {dtype, shape, data: base64, scale, offset}; value = stored * scale + offset.

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const MAGMA = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97], [254, 194, 135], [252, 253, 191]];
const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array };

function values(array) { // decoded once: Float32Array, row-major
  if (!array.values) {
    const bytes = Uint8Array.from(atob(array.data), (char) => char.charCodeAt(0));
    const stored = new TYPES[array.dtype](bytes.buffer);
    array.values = Float32Array.from(stored, (value) => value * array.scale + array.offset);
  }
  return array.values;
}

function range(numbers) {
  let low = Infinity, high = -Infinity;
  for (const number of numbers) { if (number < low) low = number; if (number > high) high = number; }
  return [low, high > low ? high : low + 1];
}

function colour(map, share) { // share 0..1 → [r, g, b]
  const place = Math.min(Math.max(share, 0), 1) * (map.length - 1), index = Math.min(Math.floor(place), map.length - 2);
  return map[index].map((value, channel) => value + (map[index + 1][channel] - value) * (place - index));
}

function labelColour(label) { // neighbouring numbers get hues far apart
  const hue = (label * 137.5) % 360, part = (n) => { const k = (n + hue / 30) % 12; return 255 * (0.55 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1))); };
  return [part(0), part(8), part(4)];
}

function element(name, parent, properties = {}) {
  const node = Object.assign(document.createElement(name), properties);
  parent.append(node);
  return node;
}

// A grid of cells as a small canvas, one pixel a cell: pick(row, column) → [r, g, b, alpha 0..1].
function cells(height, width, pick) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const picture = new ImageData(width, height);
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
    const [r, g, b, alpha] = pick(row, column);
    picture.data.set([r, g, b, 255 * alpha], 4 * (row * width + column));
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function arrows(context, layer, valid, frame) { // one a cell, from where the content came to where it is
  const [height, width] = layer.shape.slice(-2), [cellHeight, cellWidth] = layer.cell.slice(-2);
  const motion = values(layer), known = valid && values(valid), plane = motion.length / 2;
  context.lineWidth = Math.max(1, context.canvas.width / 320);
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
    const at = (frame * height + row) * width + column;
    if (known && !known[at]) continue;
    const x = (column + 0.5) * cellWidth, y = (row + 0.5) * cellHeight, dx = motion[at], dy = motion[at + plane];
    const length = Math.hypot(dx, dy);
    context.strokeStyle = context.fillStyle = length < 0.25 ? "#ffffff90" : "#ffe14d";
    context.beginPath();
    if (length < 0.25) { context.arc(x, y, context.lineWidth * 0.8, 0, 7); context.fill(); continue; }
    const head = Math.min(5, 2 + length / 2), angle = Math.atan2(dy, dx);
    context.moveTo(x - dx, y - dy);
    context.lineTo(x, y);
    for (const turn of [-2.6, 2.6]) { context.moveTo(x, y); context.lineTo(x + head * Math.cos(angle + turn), y + head * Math.sin(angle + turn)); }
    context.stroke();
  }
}

// Draws one layer of a picture or of a frame, in payload pixels. layers: all of the sample, for a vector's NAME_valid.
function paint(context, layers, name, frame, alpha) {
  const layer = layers[name];
  context.save();
  context.globalAlpha = alpha;
  if (layer.kind === "vector") arrows(context, layer, layers[`${name}_valid`], frame);
  else {
    const [height, width] = layer.shape.slice(-2), [cellHeight, cellWidth] = layer.cell.slice(-2);
    const numbers = values(layer), start = frame * height * width, [low, high] = range(numbers);
    context.imageSmoothingEnabled = false;
    context.drawImage(cells(height, width, (row, column) => {
      const value = numbers[start + row * width + column], share = (value - low) / (high - low);
      if (layer.kind === "label") return [...labelColour(value), 1];
      return layer.kind === "flag" ? [255, 60, 60, value ? 1 : 0] : [...colour(MAGMA, share), 1];
    }), 0, 0, width * cellWidth, height * cellHeight);
  }
  context.restore();
}

function hasVectors(layers, name, frame) { // a frame that the codec stores whole has none
  const valid = layers[`${name}_valid`], cells = valid && valid.shape.at(-2) * valid.shape.at(-1);
  return layers[name].kind !== "vector" || !valid || values(valid).subarray(frame * cells, (frame + 1) * cells).some((known) => known);
}

const frames = (layer) => (layer.kind === "vector" ? layer.shape.slice(1) : layer.shape).slice(0, -2).reduce((a, b) => a * b, 1);
const chosenFrames = (count) => [...new Set([0.1, 0.35, 0.6, 0.85].map((share) => Math.floor(share * count)))];
const frameAt = (sample, seconds) => Math.max(0, Math.min(Math.floor(seconds * (sample.facts.fps || 1) + 0.01), (sample.facts.frames || 1) - 1));
const shownLayers = (sample) => Object.keys(sample.layers).filter((name) => !(name.endsWith("_valid") && sample.layers[name.slice(0, -6)]));

// Checkboxes for the layers and a slider for their opacity; draws on a canvas over the picture whenever something changes.
function overlay(article, stage, sample, size, now) {
  const names = shownLayers(sample);
  if (!names.length) return;
  const canvas = element("canvas", stage), context = canvas.getContext("2d");
  const controls = element("fieldset", article);
  stage.after(controls);
  element("legend", controls, { textContent: "layers drawn over the sample" });
  const boxes = names.map((name) => {
    const label = element("label", controls), box = element("input", label, { type: "checkbox", checked: sample.layers[name].kind === "vector" });
    label.append(name);
    return box;
  });
  const label = element("label", controls, { textContent: "opacity " });
  const slider = element("input", label, { type: "range", min: 0, max: 1, step: 0.05, value: 0.55 });
  const draw = () => {
    [canvas.width, canvas.height] = size();
    names.forEach((name, index) => boxes[index].checked && paint(context, sample.layers, name, Math.min(now(), frames(sample.layers[name]) - 1), sample.layers[name].kind === "vector" ? 1 : +slider.value));
  };
  controls.addEventListener("input", draw);
  draw();
  return draw;
}

function still(strip, source, size, sample, name, frame, caption) {
  const figure = element("figure", strip), canvas = element("canvas", figure, { width: size[0], height: size[1] });
  element("figcaption", figure, { textContent: hasVectors(sample.layers, name, frame) ? caption : `${caption}: coded without motion` });
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0, ...size);
  paint(context, sample.layers, name, frame, sample.layers[name].kind === "vector" ? 1 : 0.7);
}

async function drawImage(article, stage, image, sample) {
  await image.decode();
  const size = [image.naturalWidth, image.naturalHeight];
  overlay(article, stage, sample, () => size, () => 0);
  const strip = element("div", article, { className: "strip" });
  article.querySelector("dl").before(strip);
  for (const name of shownLayers(sample)) still(strip, image, size, sample, name, 0, name);
}

const once = (target, event) => new Promise((resolve, reject) => {
  target.addEventListener(event, resolve, { once: true });
  target.addEventListener("error", () => reject(new Error("this browser cannot play the clip")), { once: true });
});

async function drawVideo(article, stage, video, sample) {
  const strip = element("div", article, { className: "strip" });
  article.querySelector("dl").before(strip);
  const copy = Object.assign(document.createElement("video"), { muted: true, preload: "auto" }); // seeks without moving the player
  const loaded = once(copy, "loadeddata");
  copy.src = video.src;
  await loaded;
  const size = [copy.videoWidth, copy.videoHeight];
  const draw = overlay(article, stage, sample, () => size, () => frameAt(sample, video.currentTime));
  const follow = () => { draw(); video.requestVideoFrameCallback?.(follow); };
  if (draw) { follow(); video.addEventListener("seeked", draw); video.addEventListener("timeupdate", draw); }
  if (sample.facts.frames > 1) video.currentTime = 1.5 / (sample.facts.fps || 1); // the first, a key frame, shows no motion
  const chosen = chosenFrames(sample.facts.frames || 1);
  const names = shownLayers(sample), pictures = [];
  for (const frame of chosen) {
    const seeked = once(copy, "seeked");
    copy.currentTime = (frame + 0.5) / (sample.facts.fps || 1); // the middle of a frame: no rounding to its neighbour
    await seeked;
    const picture = Object.assign(document.createElement("canvas"), { width: size[0], height: size[1] });
    picture.getContext("2d").drawImage(copy, 0, 0);
    pictures.push(picture);
  }
  for (const name of names) chosen.forEach((frame, index) => still(strip, pictures[index], size, sample, name, Math.min(frame, frames(sample.layers[name]) - 1), `${name}, frame ${frame}`));
}

function drawing(article, width, height) { // above the facts: [figure, its canvas]
  const figure = element("figure", article), canvas = element("canvas", figure, { className: "drawing", width, height });
  article.querySelector("dl").before(figure);
  return [figure, canvas];
}

function drawPoints(article, sample) { // from above: forward (x) is up, left (y) is left
  const [figure, canvas] = drawing(article, 900, 900);
  const context = canvas.getContext("2d"), points = values(sample.arrays.points), count = points.length / 3;
  const along = (axis) => Float32Array.from({ length: count }, (_, index) => points[3 * index + axis]).sort();
  const [xs, ys, zs] = [0, 1, 2].map(along), share = (sorted, part) => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
  const [left, right] = [share(ys, 0.995), share(ys, 0.005)], [near, far] = [share(xs, 0.005), share(xs, 0.995)];
  const [low, high] = [share(zs, 0.02), share(zs, 0.98)], scale = 860 / Math.max(left - right, far - near, 1);
  const place = (x, y) => [450 + ((left + right) / 2 - y) * scale, 450 + ((far + near) / 2 - x) * scale];
  const flags = Object.keys(sample.layers).filter((name) => sample.layers[name].kind === "flag");
  element("figcaption", figure, { textContent: `from above, forward is up; height from ${low.toFixed(1)} m (blue) to ${high.toFixed(1)} m (yellow)` });
  const controls = element("fieldset", article);
  figure.after(controls);
  const boxes = flags.map((name) => {
    const label = element("label", controls), box = element("input", label, { type: "checkbox", checked: true });
    label.append(`${name} in red`);
    return box;
  });
  const draw = () => {
    context.fillStyle = "#0c0d12";
    context.fillRect(0, 0, 900, 900);
    for (let index = 0; index < count; index++) {
      const [x, y] = place(points[3 * index], points[3 * index + 1]);
      const flagged = flags.some((name, flag) => boxes[flag].checked && values(sample.layers[name])[index]);
      const [r, g, b] = flagged ? [170, 60, 70] : colour(VIRIDIS, 0.2 + 0.8 * (points[3 * index + 2] - low) / Math.max(high - low, 0.1));
      context.fillStyle = `rgb(${r} ${g} ${b})`;
      context.fillRect(x, y, 2, 2);
    }
    const [x, y] = place(0, 0);
    context.strokeStyle = context.fillStyle = "#ffffff60";
    context.font = "20px system-ui";
    for (const metres of [10, 20, 40, 80]) {
      context.beginPath();
      context.arc(x, y, metres * scale, 0, 7);
      context.stroke();
      context.fillText(`${metres} m`, x + 4, y - metres * scale - 4);
    }
  };
  controls.addEventListener("input", draw);
  draw();
}

// Time to the right, low frequencies at the bottom; each layer is a line below: its mean over the frequencies.
function drawMel(article, sample) {
  const { shape: [count, bands] } = sample.arrays.mel, mel = values(sample.arrays.mel), [low, high] = range(mel);
  const [shown, canvas] = drawing(article, 900, 320), context = canvas.getContext("2d"), { start, end } = sample.facts;
  const time = end > start ? `${(+start).toFixed(2)} s to ${(+end).toFixed(2)} s` : `${count} frames`;
  element("figcaption", shown, { textContent: `${time} to the right, ${bands} mel bands upwards; from quiet (black) to loud (yellow)` });
  context.imageSmoothingEnabled = false;
  context.drawImage(cells(bands, count, (row, column) => [...colour(MAGMA, (mel[column * bands + bands - 1 - row] - low) / (high - low)), 1]), 0, 0, 900, 320);
  for (const name of shownLayers(sample)) {
    const { shape: [steps, groups] } = sample.layers[name], numbers = values(sample.layers[name]);
    const line = Float32Array.from({ length: steps }, (_, step) => { let sum = 0; for (let group = 0; group < groups; group++) sum += numbers[step * groups + group]; return sum / groups; });
    const [bottom, top] = range(line), [figure, graph] = drawing(article, 900, 70);
    element("figcaption", figure, { textContent: `${name}, ${bottom.toPrecision(3)} to ${top.toPrecision(3)} ${sample.layers[name].unit}` });
    const pen = graph.getContext("2d");
    pen.strokeStyle = "#3b82f6";
    pen.lineWidth = 2;
    line.forEach((value, step) => pen.lineTo((step + 0.5) * 900 * sample.layers[name].cell[0] / count, 66 - 62 * (value - bottom) / (top - bottom)));
    pen.stroke();
  }
}

function drawLayers(article, sample) { // of an overlay, which has no picture to draw them on
  const strip = element("div", article, { className: "strip" });
  article.querySelector("dl").before(strip);
  for (const name of shownLayers(sample).filter((name) => sample.layers[name].shape.length > 1)) {
    const layer = sample.layers[name], [height, width] = layer.shape.slice(-2), [cellHeight, cellWidth] = layer.cell.slice(-2);
    const size = [width * cellWidth, height * cellHeight], count = frames(layer);
    const blank = Object.assign(document.createElement("canvas"), { width: size[0], height: size[1] });
    for (const frame of chosenFrames(count)) still(strip, blank, size, sample, name, frame, count > 1 ? `${name}, frame ${frame}` : name);
  }
}

async function drawSample(article, sample) {
  const stage = article.querySelector(".stage"), image = article.querySelector("img"), video = article.querySelector("video");
  if (image) await drawImage(article, stage, image, sample);
  if (video) await drawVideo(article, stage, video, sample);
  if (sample.arrays.points) drawPoints(article, sample);
  if (sample.arrays.mel) drawMel(article, sample);
  if (!image && !video && !sample.arrays.points && !sample.arrays.mel) drawLayers(article, sample);
}

const samples = JSON.parse(document.getElementById("data").textContent);
document.querySelectorAll("article").forEach((article, index) => {
  drawSample(article, samples[index]).catch((error) => element("p", article, { className: "error", textContent: error.message }));
});
