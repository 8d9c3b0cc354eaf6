// From an answer's PNGs to what lies on the canvas. Maps cover the whole model image, as the picture does; both are cut
// to the part that shows the file, so that they stay one over the other.

const INFERNO = [
  [0, 0, 4], [11, 7, 36], [33, 12, 74], [61, 9, 101], [87, 16, 110], [113, 25, 110], [138, 34, 106], [163, 44, 97],
  [188, 55, 84], [210, 70, 68], [228, 90, 49], [241, 115, 29], [249, 142, 9], [252, 172, 17], [249, 203, 53], [242, 234, 105],
  [252, 255, 164],
];
const STEP = 16;
const EVEN = 0.8; // a map whose lowest level is that much of its highest has no peak to speak of

// Returns the colour of a level of 0 to 255, as reports have it: OpenCV's inferno, between every 16th level.
function colour(level) {
  const low = Math.floor(level / STEP), share = (level % STEP) / STEP;
  const [from, to] = [INFERNO[low], INFERNO[low + 1]];
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * share));
}

const LEVELS = Array.from({ length: 256 }, (_, level) => colour(level));

async function bitmap(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

// Draws the picture, and returns its size in the model image.
export async function drawPicture(canvas, picture) {
  const image = await bitmap(picture.png_base64);
  const { top, left, height, width } = picture.shown;
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(image, left, top, width, height, 0, 0, width, height);
}

// Draws a map in colour, clear where it is low; returns where it is highest, in words.
export async function drawMap(canvas, map, shown) {
  const image = await bitmap(map.png_base64);
  const { top, left, height, width } = shown;
  const [down, across] = [image.height / 640, image.width / 512];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(image, left * across, top * down, width * across, height * down, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const peak = tint(pixels.data);
  context.putImageData(pixels, 0, 0);
  if (peak === undefined) return "much the same everywhere in the picture";
  return `highest at the ${told({ y: Math.floor(peak / width) / height, x: (peak % width) / width })} of the picture`;
}

// Colours RGBA grey levels in place, as opaque as the square root of their share; returns the place of the highest, if it stands out.
function tint(rgba) {
  let peak = 0, highest = -1, lowest = 255;
  for (let index = 0; index < rgba.length; index += 4) {
    const level = rgba[index];
    lowest = Math.min(lowest, level);
    if (level > highest) [highest, peak] = [level, index / 4];
    rgba.set(LEVELS[level], index);
    rgba[index + 3] = 255 * Math.sqrt(level / 255);
  }
  return lowest > EVEN * highest ? undefined : peak;
}

// Says where a place of the picture is, for who can't see it: the picture's own sides, not the patient's.
function told({ y, x }) {
  const row = y < 1 / 3 ? "upper" : y < 2 / 3 ? "middle" : "lower";
  const column = x < 1 / 3 ? "left" : x < 2 / 3 ? "centre" : "right";
  return row === "middle" && column === "centre" ? "centre" : `${row} ${column}`;
}
