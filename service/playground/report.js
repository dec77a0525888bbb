// The honesty report in words, small charts and maps.

const SVG = "http://www.w3.org/2000/svg";

export function words(report) {
  const list = document.createElement("ul");
  list.className = "words";
  for (const [text, tone] of sentences(report)) {
    const item = document.createElement("li");
    item.textContent = text;
    if (tone) item.className = tone;
    list.append(item);
  }
  return list;
}

function* sentences(report) {
  const limit = report.identity_matching_angle.value;
  const degrees = (angle) => `${Math.round(angle)}°`;
  if (!report.references.length) {
    yield ["No reference was used for this face: what the photograph does not show was filled in from what faces look like in general."];
  }
  for (const [index, reference] of report.references.entries()) {
    const angle = reference.identity_angle_to_restored.value;
    const name = `Reference ${index + 1}`;
    if (reference.wrong_person) {
      yield [`${name} seems to show another person than the photograph. Remove it unless you know better.`, "warn"];
    } else if (angle <= limit) {
      yield [`${name} and the restored face look like one person (${degrees(angle)} apart, one person is below ${degrees(limit)}).`, "good"];
    } else {
      yield [`${name} and the restored face are ${degrees(angle)} apart; one person is usually below ${degrees(limit)}.`, "warn"];
    }
  }
  if (report.chosen_reference !== null) {
    yield [`The eyes were taken from reference ${report.chosen_reference + 1}, whose expression is nearest to the photograph’s.`];
  }
  const moved = report.identity_angle.value;
  if (!report.identity_legible) {
    yield ["The photograph shows too little to tell who it is; the person rests on the references, or on nothing.", "warn"];
  } else if (moved > limit) {
    yield [`The restored face has moved ${degrees(moved)} away from the photograph: it may no longer be the same person.`, "warn"];
  } else {
    yield [`From the photograph to the restored face the identity moved by ${degrees(moved)}.`];
  }
  const rms = (squared) => (squared === null ? "an unknown distance" : `${Math.sqrt(squared).toFixed(1)} px`);
  yield [
    `The shape of the eyes changed by ${rms(report.affine_landmark_distance_eyes.value)}, that of the mouth by ` +
      `${rms(report.affine_landmark_distance_mouth.value)} (of a face 512 px wide; pose and size set aside).`,
  ];
  yield [
    `Pixels changed by ${report.mean_change.value.toFixed(1)} of 255 levels on average, colours shifted by ` +
      `${report.colour_shift.value.toFixed(1)} CIELAB units.`,
  ];
}

export function charts(report) {
  const place = document.createElement("div");
  place.className = "charts";
  if (!report.references.length) return place;
  const limit = report.identity_matching_angle.value;
  place.append(
    bars(
      "Identity angle to the restored face, in degrees; dashed: where another person begins",
      report.references.map((reference) => reference.identity_angle_to_restored.value),
      (angle) => (angle <= limit ? "within" : "beyond"),
      Math.max(90, limit),
      limit,
    ),
    bars(
      "Difference in expression (A-LD, px² at 512 px); green: the reference that was chosen",
      report.references.map((reference) => reference.affine_landmark_distance.value),
      (_, index) => (index === report.chosen_reference ? "chosen" : ""),
    ),
  );
  return place;
}

function bars(title, values, tone, most = Math.max(...values.map((value) => value ?? 0), 1e-6), mark = null) {
  const row = 20, left = 80, width = 210;
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const svg = element("svg", { class: "chart", role: "img", viewBox: `0 0 340 ${values.length * row}` });
  svg.setAttribute("aria-label", `${title}: ${values.map((value, i) => `reference ${i + 1} ${value ?? "unknown"}`).join(", ")}`);
  values.forEach((value, index) => {
    const y = index * row;
    svg.append(
      text(`reference ${index + 1}`, 0, y + 13),
      element("rect", { class: "track", x: left, y: y + 3, width, height: 12, rx: 3 }),
      element("rect", { class: `bar ${tone(value, index)}`, x: left, y: y + 3, width: Math.min(1, (value ?? most) / most) * width, height: 12, rx: 3 }),
      text(value === null ? "–" : value.toFixed(1), left + width + 8, y + 13),
    );
  });
  if (mark !== null) {
    const x = left + (mark / most) * width;
    svg.append(element("line", { class: "mark", x1: x, x2: x, y1: 0, y2: values.length * row }));
  }
  figure.append(caption, svg);
  return figure;
}

export function maps(report) {
  const place = document.createElement("div");
  place.className = "maps";
  const shown = [
    [report.change_map, "What was changed: the brighter, the more"],
    [report.attention_map, "What the landmark network looks at in the photograph"],
  ];
  for (const [map, caption] of shown) {
    const figure = document.createElement("figure");
    const image = new Image();
    image.src = `data:image/png;base64,${map.png}`;
    image.alt = caption;
    const below = document.createElement("figcaption");
    below.textContent = caption;
    figure.append(image, below);
    place.append(figure);
  }
  return place;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function text(words, x, y) {
  const made = element("text", { x, y });
  made.textContent = words;
  return made;
}
