// Parts of the aligned 512 px face, cut out of the pictures, and the report's maps laid over it. A picture is its image
// and the width and height in which the face's matrix counts.

import { make } from "./dom.js";

// x, y, width, height in the aligned face; of one shape, so that they line up.
const PARTS = { Eyes: [112, 180, 288, 108], Mouth: [144, 320, 224, 84] };

export function closeups(face, before, after) {
  const sides = [[before, "before"], [after, "after"]].filter(([picture]) => picture);
  const place = make("div", { class: "closeups" });
  for (const [name, part] of Object.entries(PARTS)) {
    for (const [picture, when] of sides) {
      const canvas = make("canvas", { role: "img", "aria-label": `${name}, ${when}` });
      draw(canvas, picture, face.aligning_matrix, part, 576 / part[2]);
      place.append(make("figure", {}, canvas, make("figcaption", {}, `${name}, ${when}`)));
    }
  }
  if (sides.length === 1) place.classList.add("single");
  return place;
}

function draw(canvas, picture, [[a, b, c], [d, e, f]], [x, y, width, height], scale) {
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  // The matrix counts from the centres of pixels, a canvas from their corners.
  const right = c + 0.5 - (a + b) / 2 - x, down = f + 0.5 - (d + e) / 2 - y;
  context.setTransform(scale * a, scale * d, scale * b, scale * e, scale * right, scale * down);
  context.drawImage(picture.image, 0, 0, picture.width, picture.height);
  context.resetTransform();
  return context;
}

export function maps(face, before, after) {
  const { change_map: change, attention_map: attention } = face.report;
  const place = make("div", { class: "maps" });
  const shown = [
    [change, after, [230, 110, 20], "What was changed; strongest colour: most"],
    [attention, before ?? after, [40, 110, 220], "Where the landmarks were read in the photograph"],
  ];
  for (const [map, picture, colour, caption] of shown) {
    const canvas = make("canvas", { role: "img", "aria-label": caption });
    lay(canvas, picture, face.aligning_matrix, map.png, colour);
    place.append(make("figure", {}, canvas, make("figcaption", {}, caption)));
  }
  return place;
}

// A map in one colour over the face in grey; a faint map is lifted until its strongest part is opaque.
async function lay(canvas, picture, matrix, png, colour) {
  const size = 384;
  const context = draw(canvas, picture, matrix, [0, 0, 512, 512], size / 512);
  const map = new Image();
  map.src = `data:image/png;base64,${png}`;
  await map.decode();
  const under = context.getImageData(0, 0, size, size);
  context.drawImage(map, 0, 0, size, size);
  const over = context.getImageData(0, 0, size, size).data;
  let most = 1;
  for (let i = 0; i < over.length; i += 4) most = Math.max(most, over[i]);
  for (let i = 0; i < over.length; i += 4) {
    const grey = 60 + 0.65 * (0.3 * under.data[i] + 0.59 * under.data[i + 1] + 0.11 * under.data[i + 2]);
    const opacity = (over[i] / most) ** 0.8;
    for (let k = 0; k < 3; k++) under.data[i + k] = grey * (1 - opacity) + colour[k] * opacity;
  }
  context.putImageData(under, 0, 0);
}
