// The answer on the page: the slider over before and after, landmarks, close-ups, and a card for each face.

import { charts, maps, words } from "./report.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
// Parts of the aligned 512 px face: x, y, width, height.
const CLOSEUPS = { "The eyes": [118, 186, 276, 100], "The mouth": [156, 320, 200, 110] };
let urls = [];

export async function show(photo, answer, seconds) {
  for (const url of urls) URL.revokeObjectURL(url);
  const restored = blobOf(answer.picture);
  urls = [URL.createObjectURL(photo), URL.createObjectURL(restored)];
  const before = await loaded($("before"), urls[0]);
  const after = await loaded($("after"), urls[1]);
  // A browser that cannot show the upload (TIFF) still shows what became of it.
  $("stage").classList.toggle("alone", !before);
  $("slider").disabled = !before;
  $("download").href = urls[1];
  $("download").download = `restored.${answer.picture.media_type.split("/")[1].replace("jpeg", "jpg")}`;
  $("timing").textContent = `${answer.picture.width} × ${answer.picture.height} pixels, ${seconds.toFixed(1)} s`;
  overlay(answer);
  slide(50);
  $("empty").hidden = true;
  $("shown").hidden = false;
  $("faces-report").replaceChildren(
    ...answer.faces.map((face, index) => card(face, index, answer.faces.length, before, after)),
  );
}

function blobOf(picture) {
  const bytes = Uint8Array.from(atob(picture.base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: picture.media_type });
}

function loaded(image, url) {
  return new Promise((resolve) => {
    image.onload = () => resolve(image);
    image.onerror = () => resolve(null);
    image.src = url;
  });
}

// Slider --------------------------------------------------------------------

function slide(percent) {
  $("slider").value = percent;
  $("slider").setAttribute("aria-valuetext", `${Math.round(percent)} percent before`);
  $("stage").style.setProperty("--edge", `${percent}%`);
}

$("slider").oninput = () => slide(Number($("slider").value));
$("stage").onpointerdown = (event) => {
  if (event.button !== 0) return;
  const follow = (move) => {
    const frame = $("stage").getBoundingClientRect();
    slide(Math.min(100, Math.max(0, (100 * (move.clientX - frame.left)) / frame.width)));
  };
  follow(event);
  $("stage").setPointerCapture(event.pointerId);
  $("stage").onpointermove = follow;
  $("stage").onpointerup = $("stage").onpointercancel = () => ($("stage").onpointermove = null);
};
$("stage").ondragstart = (event) => event.preventDefault();
$("actual").onchange = () => $("stage").classList.toggle("actual", $("actual").checked);
$("landmarks").onchange = () => ($("overlay").toggleAttribute("hidden", !$("landmarks").checked));

// Landmarks -----------------------------------------------------------------

function overlay(answer) {
  const { width, height } = answer.picture;
  $("overlay").setAttribute("viewBox", `0 0 ${width} ${height}`);
  const shapes = answer.faces.flatMap((face) => {
    const [left, top, right, bottom] = face.box;
    const size = (right - left) / 90;
    const frame = shape("rect", { x: left, y: top, width: right - left, height: bottom - top });
    return [frame, ...face.landmarks.map(([x, y]) => shape("circle", { cx: x + 0.5, cy: y + 0.5, r: Math.max(size, 0.6) }))];
  });
  $("overlay").replaceChildren(...shapes);
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// A face's card -------------------------------------------------------------

function card(face, index, total, before, after) {
  const section = document.createElement("section");
  section.className = "face";
  const title = document.createElement("h3");
  title.textContent = total === 1 ? "What the report says" : `Face ${index + 1} of ${total}`;
  const closeups = document.createElement("div");
  closeups.className = "closeups";
  for (const [name, part] of Object.entries(CLOSEUPS)) closeups.append(closeup(name, part, face, before, after));
  section.append(title, closeups, words(face.report), charts(face.report), maps(face.report));
  return section;
}

function closeup(name, [x, y, width, height], face, before, after) {
  const figure = document.createElement("figure");
  const scale = 2;
  for (const [image, when] of [[before, "before"], [after, "after"]]) {
    if (!image) continue;
    const canvas = document.createElement("canvas");
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}, ${when}`);
    const context = canvas.getContext("2d");
    const [[a, b, c], [d, e, f]] = face.aligning_matrix;
    context.imageSmoothingQuality = "high";
    // The matrix counts from the centres of pixels, a canvas from their corners.
    const right = c + 0.5 - (a + b) / 2 - x, down = f + 0.5 - (d + e) / 2 - y;
    context.setTransform(scale * a, scale * d, scale * b, scale * e, scale * right, scale * down);
    context.drawImage(image, 0, 0, image.naturalWidth, image.naturalHeight);
    figure.append(canvas);
  }
  const caption = document.createElement("figcaption");
  caption.textContent = before ? `${name}, before and after` : `${name}, after`;
  figure.append(caption);
  return figure;
}
