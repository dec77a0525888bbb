// A face's card: the verdict, close-ups, the honesty report in words, and small charts.

import { closeups, maps } from "./crops.js";
import { make, shape } from "./dom.js";

export function card(face, index, total, before, after) {
  const report = face.report;
  const [tone, verdict] = judge(report);
  const title = total === 1 ? "The honesty report" : `Face ${index + 1} of ${total}`;
  return make(
    "section",
    { class: "face" },
    make("h3", {}, title),
    make("p", { class: `verdict ${tone}` }, verdict),
    closeups(face, before, after),
    make(
      "div",
      { class: "findings" },
      make("ul", { class: "words" }, ...[...sentences(report)].map(([text, tone = ""]) => make("li", { class: tone }, text))),
      maps(face, before, after),
      make("div", { class: "charts" }, identityChart(report), ...expressionChart(report)),
    ),
  );
}

export function notices(upload) {
  const told = [];
  if (upload.generated) told.push("The photograph says that a trained model made it or part of it: its faces may be guesses.");
  if (upload.first_of_several) told.push("The file holds several pictures; only the first was restored.");
  return told.map((text) => make("p", { class: "verdict warn" }, text));
}

const degrees = (angle) => `${Math.round(angle)}°`;
const strangers = (report) => report.references.filter((reference) => reference.wrong_person);
const moved = (report) => report.identity_angle.value > report.identity_matching_angle.value;

function judge(report) {
  const count = report.references.length;
  if (strangers(report).length) return ["warn", "Take care: a reference seems to show another person."];
  if (report.identity_legible && moved(report)) return ["warn", "Take care: the face may have become another person’s."];
  if (!count) return ["open", "Restored without references: fine detail is what faces look like in general, not evidence of this one."];
  const limit = report.identity_matching_angle.value;
  const alike = report.references.filter((reference) => reference.identity_angle_to_restored.value <= limit);
  const backed = alike.filter((reference) => !reference.generated).length;
  if (alike.length && !backed) return ["warn", "Take care: only pictures that a trained model made or changed look like the restored person."];
  if (!backed) return ["warn", "Take care: no reference and the restored face look like one person."];
  const who = backed === 1 ? "one reference that looks" : `${backed} references that look`;
  return ["good", `Backed by ${who} like the restored person.`];
}

function* sentences(report) {
  const limit = report.identity_matching_angle.value;
  for (const [index, reference] of report.references.entries()) {
    const angle = reference.identity_angle_to_restored.value;
    const name = `Reference ${index + 1}`;
    if (reference.generated) {
      yield [`${name} says that a trained model made it or part of it: it is no evidence of how the person looks.`, "warn"];
    }
    if (reference.wrong_person) {
      const left = reference.used ? "" : " It was left out.";
      yield [`${name} seems to show another person than the photograph.${left} Remove it unless you know better.`, "warn"];
    } else if (angle <= limit) {
      yield [`${name} and the restored face look like one person: ${degrees(angle)} apart, one person is below ${degrees(limit)}.`, "good"];
    } else {
      yield [`${name} and the restored face are ${degrees(angle)} apart; one person is usually below ${degrees(limit)}.`, "warn"];
    }
  }
  if (!report.references.length) yield ["No reference was used for this face."];
  if (report.chosen_reference !== null && report.references.length > 1) {
    yield [`The eyes follow reference ${report.chosen_reference + 1}, whose expression is nearest to the photograph’s.`];
  }
  if (!report.identity_legible) {
    yield ["The photograph shows too little to tell who it is; the person rests on the references, or on nothing.", "warn"];
  } else {
    const far = moved(report) ? ": it may no longer be the same person" : "";
    yield [`Restoring moved the identity by ${degrees(report.identity_angle.value)}${far}.`, far && "warn"];
  }
  // A-LD is a sum of squares over 22 points of brows and eyes, or 12 of the lips.
  const drift = (distance, points) => (distance.value === null ? "an unknown distance" : `${Math.sqrt(distance.value / points).toFixed(1)} px`);
  yield [
    `Apart from pose and size the eyes moved by ${drift(report.affine_landmark_distance_eyes, 22)} and the mouth by ` +
      `${drift(report.affine_landmark_distance_mouth, 12)} a point, of a face 512 px wide.`,
  ];
  yield [
    `Pixels changed by ${report.mean_change.value.toFixed(1)} of 255 levels on average, colours by ` +
      `${report.colour_shift.value.toFixed(1)} CIELAB units.`,
  ];
}

// How far apart two faces are: everything left of the dashed line passes for one person.
function identityChart(report) {
  const limit = report.identity_matching_angle.value;
  const rows = [["photo → result", report.identity_angle.value]];
  for (const [index, reference] of report.references.entries()) {
    rows.push([`ref. ${index + 1} → photo`, reference.identity_angle_to_input.value]);
    rows.push([`ref. ${index + 1} → result`, reference.identity_angle_to_restored.value]);
  }
  return bars(
    `Identity: how far apart two faces are, in degrees. Left of the dashed line (${degrees(limit)}) they pass for one person.`,
    rows.map(([name, angle]) => [name, angle, angle <= limit ? "within" : "beyond", degrees(angle)]),
    Math.max(120, limit),
    limit,
  );
}

// A-LD of Eq. 6 is a sum of squares over 34 points: brows, eyes and lips.
function expressionChart(report) {
  const rows = report.references.map((reference, index) => {
    const distance = reference.affine_landmark_distance.value;
    const value = distance === null ? null : Math.sqrt(distance / 34);
    return [`reference ${index + 1}`, value, index === report.chosen_reference ? "within" : "", value === null ? "–" : `${value.toFixed(1)} px`];
  });
  if (!rows.length) return [];
  const most = Math.max(10, ...rows.map(([, value]) => value ?? 0));
  return [bars("Expression: how far a reference’s features lie from the photograph’s. Green: the reference chosen.", rows, most)];
}

function bars(title, rows, most, mark = null) {
  const step = 22, left = 96, width = 190;
  const told = rows.map(([name, , , value]) => `${name} ${value}`).join(", ");
  const chart = shape("svg", { class: "chart", role: "img", "aria-label": `${title} ${told}`, viewBox: `0 0 340 ${rows.length * step}` });
  rows.forEach(([name, value, tone, label], index) => {
    const y = index * step;
    chart.append(
      shape("text", { x: 0, y: y + 15 }, name),
      shape("rect", { class: "track", x: left, y: y + 5, width, height: 12, rx: 3 }),
      shape("rect", { class: `fill ${tone}`, x: left, y: y + 5, width: Math.min(1, (value ?? most) / most) * width, height: 12, rx: 3 }),
      shape("text", { x: left + width + 8, y: y + 15 }, label),
    );
  });
  if (mark !== null) {
    const x = left + (mark / most) * width;
    chart.append(shape("line", { class: "mark", x1: x, x2: x, y1: 0, y2: rows.length * step }));
  }
  return make("figure", {}, make("figcaption", {}, title), chart);
}
