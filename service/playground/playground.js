// The page's flow: files in, POST /restore, the answer shown.

import { show } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const chosen = { photo: [], references: [] };
let limits = {};
let running = null;
let clock = 0;

// What was chosen -----------------------------------------------------------

function choose(kind, files) {
  const pictures = [...files].filter((file) => file.type.startsWith("image/") || /\.(tiff?|avif)$/i.test(file.name));
  if (!files.length) return;
  const tooLarge = pictures.find((file) => limits.file_bytes && file.size > limits.file_bytes);
  if (tooLarge) {
    complain(`${tooLarge.name} has ${megabytes(tooLarge.size)}; at most ${megabytes(limits.file_bytes)} are taken.`);
    return;
  }
  const [noun, most] = kind === "photo" ? ["photograph", 1] : ["reference", limits.references ?? 16];
  const all = kind === "photo" && pictures.length ? pictures : [...chosen[kind], ...pictures];
  const others = files.length - pictures.length, tooMany = all.length - most;
  complain(
    (others ? `Left out ${count(others, "file")} without a picture. ` : "") +
      (tooMany > 0 ? `Left out ${count(tooMany, "picture")}: at most ${count(most, noun)} can be taken.` : ""),
  );
  chosen[kind] = all.slice(0, most);
  list(kind);
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function list(kind) {
  const place = $(`${kind}-list`);
  for (const image of place.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  place.replaceChildren(...chosen[kind].map((file, index) => thumbnail(kind, file, index)));
  $(kind).required = kind === "photo" && !chosen.photo.length;
}

function thumbnail(kind, file, index) {
  const item = document.createElement("li");
  const image = new Image();
  image.alt = file.name;
  image.src = URL.createObjectURL(file);
  image.onerror = () => {
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = file.name;
    image.replaceWith(name);
  };
  const remove = document.createElement("button");
  remove.type = "button";
  remove.textContent = "×";
  remove.setAttribute("aria-label", `Remove ${file.name}`);
  remove.onclick = () => {
    chosen[kind].splice(index, 1);
    list(kind);
    $(kind).focus();
  };
  item.append(image, remove);
  return item;
}

for (const kind of ["photo", "references"]) {
  $(kind).onchange = () => {
    choose(kind, $(kind).files);
    $(kind).value = "";
  };
  const zone = document.querySelector(`[data-drop="${kind}"]`);
  zone.ondragover = (event) => {
    event.preventDefault();
    zone.classList.add("over");
  };
  zone.ondragleave = () => zone.classList.remove("over");
  zone.ondrop = (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    choose(kind, event.dataTransfer.files);
  };
}
document.onpaste = (event) => choose(chosen.photo.length ? "references" : "photo", event.clipboardData.files);
$("strength").oninput = () => ($("strength-value").value = Number($("strength").value).toFixed(2));

// The request ---------------------------------------------------------------

$("form").onsubmit = async (event) => {
  event.preventDefault();
  if (running || !chosen.photo.length) return;
  complain("");
  const form = new FormData();
  form.append("image", chosen.photo[0], "photo");
  for (const file of chosen.references) form.append("references", file, "reference");
  for (const name of ["faces", "strength", "color_fix", "upscale", "format"]) form.append(name, $(name).value);
  form.append("diagnostics", "full");
  const photo = chosen.photo[0], upscale = Number($("upscale").value);
  busy(true);
  try {
    const { document: answer, seconds, timing } = await send(form);
    await show(photo, answer, upscale, `${seconds.toFixed(1)} s${timing}`);
    tell(`Done in ${seconds.toFixed(1)} seconds: ${count(answer.faces.length, "face")} restored.`);
    $("result").focus({ preventScroll: true });
    if (matchMedia("(max-width: 60rem)").matches) $("result").scrollIntoView();
  } catch (error) {
    tell("");
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    busy(false);
  }
};

$("cancel").onclick = () => running?.abort();

// fetch() tells nothing of an upload's progress.
function send(form) {
  return new Promise((resolve, reject) => {
    const request = (running = new XMLHttpRequest());
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    clock = setInterval(() => ($("clock").textContent = `${seconds().toFixed(1)} s`), 100);
    request.open("POST", "restore");
    request.setRequestHeader("Accept", "application/json");
    if ($("key").value) request.setRequestHeader("Authorization", `Bearer ${$("key").value}`);
    request.upload.onprogress = (event) => {
      $("progress").value = event.loaded / event.total;
      tell(`Uploading, ${Math.round((100 * event.loaded) / event.total)} %`);
    };
    request.upload.onload = () => {
      $("progress").removeAttribute("value");
      tell("Restoring …");
    };
    request.onload = () => {
      const answer = parsed(request.responseText);
      if (request.status === 200 && answer) resolve({ document: answer, seconds: seconds(), timing: stages(request) });
      else reject(new Error(inWords(request, answer)));
    };
    request.onerror = () => reject(new Error("The service cannot be reached."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.send(form);
  });
}

// What the service says about where the time went.
function stages(request) {
  const told = request.getResponseHeader("Server-Timing") ?? "";
  const device = /device;dur=([\d.]+)/.exec(told);
  return device ? `, of which ${(device[1] / 1000).toFixed(1)} s in the network` : "";
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function inWords(request, problem) {
  const wait = request.getResponseHeader("Retry-After");
  const again = wait ? ` Try again in ${count(Number(wait), "second")}.` : "";
  if (!problem?.detail) return `The service answered ${request.status}.${again}`;
  const detail = problem.detail.charAt(0).toUpperCase() + problem.detail.slice(1);
  return `${detail}.${again}`;
}

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function busy(now) {
  if (!now) running = null;
  clearInterval(clock);
  $("clock").textContent = "";
  $("restore").disabled = now;
  $("cancel").hidden = !now;
  $("progress").hidden = !now;
  $("progress").value = 0;
}

function tell(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
}

// The service's state -------------------------------------------------------

async function askHealth() {
  const badge = $("service");
  try {
    const health = await (await fetch("health")).json();
    limits = health.limits;
    $("key-field").hidden = !health.api_key_required;
    badge.className = `badge ${health.status === "ready" ? "ready" : "trouble"}`;
    const pace = health.seconds_per_face ? `, about ${health.seconds_per_face.toFixed(1)} s a face` : "";
    badge.textContent = health.status === "ready" ? `The service is ready${pace}` : `The service is ${health.status}`;
    if (health.status === "starting") setTimeout(askHealth, 1000);
  } catch {
    badge.className = "badge trouble";
    badge.textContent = "The service cannot be reached";
    setTimeout(askHealth, 5000);
  }
}

askHealth();
