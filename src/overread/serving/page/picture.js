// Pixels to look at: of files that the browser reads, at full size; of others (DICOM, TIFF, volumes) as the server reads them.
// A picture has `slices` planes of `width` × `height`, `channels` 1 (grey) or 3, values from `least` to `most`, and the window
// [low, high] in which it is first shown.

import { bytes, form } from "./server.js";

const PLAIN = [[0x89, 0x50, 0x4e, 0x47], [0xff, 0xd8, 0xff], [0x47, 0x49, 0x46, 0x38], [0x42, 0x4d], [0x52, 0x49, 0x46, 0x46]];
const LARGEST = 40e6; // pixels that a tab holds without trouble

async function isPlain(file) {
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  return PLAIN.some((magic) => magic.every((byte, at) => head[at] === byte));
}

/** The pictures of a case, one for each image. */
export async function pictures(files) {
  const plain = await Promise.all(files.map(isPlain));
  if (plain.every(Boolean)) return Promise.all(files.map((file, at) => decoded(file, files.length > 1 ? `image ${at + 1}` : "")));
  const { head, data } = await bytes("view", form(files));
  let at = 0;
  return head.images.map((image) => {
    const length = image.slices * image.height * image.width * image.channels;
    const values = image.bits === 16 ? new Uint16Array(data, at, length) : new Uint8Array(data, at, length);
    at += length * (image.bits / 8);
    at += at % 2;
    return { ...image, values };
  });
}

/** The picture of a file, or of a data URL, that the browser reads. */
export async function decoded(source, name = "") {
  const blob = typeof source === "string" ? await fromUrl(source) : source;
  let bitmap = await createImageBitmap(blob);
  const shrunk = Math.max(1, Math.sqrt((bitmap.width * bitmap.height) / LARGEST));
  if (shrunk > 1) bitmap = await createImageBitmap(blob, { resizeWidth: Math.round(bitmap.width / shrunk), resizeQuality: "high" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const values = new Uint8ClampedArray(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    values[to] = rgba[from];
    values[to + 1] = rgba[from + 1];
    values[to + 2] = rgba[from + 2];
  }
  return { name, width, height, slices: 1, channels: 3, values, least: 0, most: 255, low: 0, high: 255, shrunk };
}

async function fromUrl(url) {
  const text = atob(url.slice(url.indexOf(",") + 1));
  return new Blob([Uint8Array.from(text, (sign) => sign.charCodeAt(0))], { type: url.slice(5, url.indexOf(";")) });
}

/** A plane of a picture within a window as the canvas wants it. */
export function drawn(picture, slice, low, high, inverted) {
  const { width, height, channels, values } = picture, count = width * height;
  const image = new ImageData(width, height), out = new Uint32Array(image.data.buffer);
  const plane = values.subarray(slice * count * channels, (slice + 1) * count * channels);
  const shades = shadesOf(picture, low, high, inverted);
  for (let at = 0, from = 0; at < count; at += 1, from += channels) {
    const red = shades[plane[from]];
    const [green, blue] = channels === 1 ? [red, red] : [shades[plane[from + 1]], shades[plane[from + 2]]];
    out[at] = 0xff000000 | (blue << 16) | (green << 8) | red;
  }
  return image;
}

/** What each stored value is shown as: the linear window of DICOM PS3.3, C.11.2.1.3.2. */
function shadesOf({ values, least, most }, low, high, inverted) {
  const shades = new Uint8ClampedArray(values.BYTES_PER_ELEMENT === 2 ? 65_536 : 256), last = shades.length - 1;
  for (let stored = 0; stored <= last; stored += 1) {
    const value = least + (most - least) * (stored / last);
    const shade = (255 * (value - low)) / Math.max(high - low, 1e-9);
    shades[stored] = inverted ? 255 - shade : shade;
  }
  return shades;
}

/** A small picture on a square canvas. */
export function thumbnail(picture, canvas, side = 88) {
  canvas.width = canvas.height = side;
  const small = new OffscreenCanvas(picture.width, picture.height);
  small.getContext("2d").putImageData(drawn(picture, Math.floor(picture.slices / 2), picture.low, picture.high, false), 0, 0);
  const scale = Math.min(side / picture.width, side / picture.height), wide = picture.width * scale, high = picture.height * scale;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, (side - wide) / 2, (side - high) / 2, wide, high);
}
