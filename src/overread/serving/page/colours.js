// Colours of maps: viridis where a map is 0 or above, blue to red where it is signed; how opaque grows with the value, so
// that where a map says nothing the image is seen as it is. As overread.explanation.overlay draws them.

const VIRIDIS = ["440154", "482878", "3e4a89", "31688e", "26828e", "1f9e89", "35b779", "6dcd59", "b4de2c", "fde725"];
const DIVERGING = ["053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f"];

function ramp(stops) {
  const points = stops.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, value) => {
    const place = (value / 255) * (points.length - 1), left = Math.min(Math.floor(place), points.length - 2), share = place - left;
    return points[left].map((from, at) => Math.round(from + share * (points[left + 1][at] - from)));
  });
}

const EVEN = ramp(VIRIDIS), SIGNED = ramp(DIVERGING);

/** The colours of a map's bytes, as a canvas of its size. */
export function coloured(map, signed) {
  const canvas = new OffscreenCanvas(map.width, map.height), image = new ImageData(map.width, map.height);
  const text = atob(map.map);
  for (let at = 0; at < map.width * map.height; at += 1) {
    const value = text.charCodeAt(at), share = signed ? Math.min(1, Math.abs(value - 128) / 127) : value / 255;
    image.data.set([...(signed ? SIGNED : EVEN)[value], Math.round(255 * Math.sqrt(share))], 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The ramp itself, left to right. */
export function legend(canvas, signed) {
  const context = canvas.getContext("2d"), colours = signed ? SIGNED : EVEN;
  for (let x = 0; x < canvas.width; x += 1) {
    context.fillStyle = `rgb(${colours[Math.round((255 * x) / (canvas.width - 1))].join(" ")})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
}
