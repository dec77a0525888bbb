// The answer on the page: before and after under a slider, as a whole or face by face, with landmarks and downloads.

import { card, notices } from "./report.js";
import { make, shape } from "./dom.js";

const $ = (id) => document.getElementById(id);
let urls = [];
// All places are in the photograph's pixels; the restored picture has `upscale` times as many a side.
let picture = { width: 1, height: 1, upscale: 1 };
let view = { x: 0, y: 0, width: 1, height: 1 };

export async function show(photo, answer, upscale, told) {
  for (const url of urls) URL.revokeObjectURL(url);
  const { base64, ...described } = answer.picture;
  const report = new Blob([JSON.stringify({ ...answer, picture: described }, null, 2)], { type: "application/json" });
  urls = [photo, pictureOf(answer.picture), report].map((blob) => URL.createObjectURL(blob));
  const before = await loaded($("before"), urls[0]);
  const after = await loaded($("after"), urls[1]);
  // A browser that cannot show the upload (TIFF) still shows what became of it.
  $("stage").classList.toggle("alone", !before);
  $("slider").disabled = !before;
  const { width, height, media_type } = answer.picture;
  picture = { width: width / upscale, height: height / upscale, upscale };
  const kind = media_type.split("/")[1].replace("jpeg", "jpg");
  $("download").href = urls[1];
  $("download").download = `restored.${kind}`;
  $("download-report").href = urls[2];
  $("timing").textContent = `${width} × ${height} pixels, ${told}`;
  overlay(answer.faces);
  views(answer.faces);
  slide(50);
  $("empty").hidden = true;
  $("shown").hidden = false;
  $("faces-report").replaceChildren(
    ...notices(answer.upload),
    ...answer.faces.map((face, index) => card(face, index, answer.faces.length, placed(before), placed(after))),
  );
}

function pictureOf({ base64, media_type }) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: media_type });
}

function loaded(image, url) {
  return new Promise((resolve) => {
    image.onload = () => resolve(image);
    image.onerror = () => resolve(null);
    image.src = url;
  });
}

const placed = (image) => image && { image, width: picture.width, height: picture.height };

// The whole picture, or one face -------------------------------------------------

function views(faces) {
  const whole = { x: 0, y: 0, width: picture.width, height: picture.height };
  const all = [["Whole picture", whole]];
  faces.forEach((face, index) => all.push([faces.length === 1 ? "Face" : `Face ${index + 1}`, around(face.box)]));
  $("views").replaceChildren(
    $("views").firstElementChild,
    ...all.map(([name, part], index) => {
      const choice = make("input", { type: "radio", name: "view", value: index, checked: index === 0 });
      choice.onchange = () => look(part);
      return make("label", {}, choice, make("span", {}, name));
    }),
  );
  look(whole);
}

// A third more than the box on every side, where the picture has it.
function around([left, top, right, bottom]) {
  const side = Math.max(right - left, bottom - top) * 1.6;
  const width = Math.min(side, picture.width), height = Math.min(side, picture.height);
  const within = (start, size, most) => Math.min(Math.max(start, 0), most - size);
  return {
    x: within((left + right - width) / 2, width, picture.width),
    y: within((top + bottom - height) / 2, height, picture.height),
    width,
    height,
  };
}

function look(part) {
  view = part;
  $("shown").style.setProperty("--ratio", view.width / view.height);
  $("shown").style.setProperty("--actual", `${(view.width * picture.upscale) / devicePixelRatio}px`);
  for (const image of [$("before"), $("after")]) {
    image.style.width = `${(100 * picture.width) / view.width}%`;
    image.style.left = `${(-100 * view.x) / view.width}%`;
    image.style.top = `${(-100 * view.y) / view.height}%`;
  }
  $("overlay").setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  $("stage").classList.toggle("actual", $("actual").checked);
}

$("actual").onchange = () => look(view);

// Slider ---------------------------------------------------------------------------

function slide(percent) {
  $("slider").value = percent;
  $("slider").setAttribute("aria-valuetext", `${Math.round(percent)} percent before`);
  $("stage").style.setProperty("--edge", `${percent}%`);
}

$("slider").oninput = () => slide(Number($("slider").value));
$("stage").onpointerdown = (event) => {
  if (event.button !== 0 || $("slider").disabled) return;
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

// Landmarks --------------------------------------------------------------------------

function overlay(faces) {
  const shapes = faces.flatMap(({ box: [left, top, right, bottom], landmarks }) => {
    const radius = Math.max((right - left) / 110, 0.5);
    return [
      shape("rect", { x: left, y: top, width: right - left, height: bottom - top }),
      ...landmarks.map(([x, y]) => shape("circle", { cx: x + 0.5, cy: y + 0.5, r: radius })),
    ];
  });
  $("overlay").replaceChildren(...shapes);
}

$("landmarks").onchange = () => $("overlay").toggleAttribute("hidden", !$("landmarks").checked);
