// Pillow's image resampling, bit for bit. Browsers resize without antialiasing, which changes what a model answers.
// Source: Pillow, src/libImaging/Resample.c: coefficients of 22 bits, a horizontal and then a vertical pass of 8 bits.

const PRECISION_BITS = 22;

const FILTERS = {
  1: { support: 3, weight: lanczos },
  2: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  3: { support: 2, weight: bicubic },
  4: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  5: { support: 1, weight: hamming },
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function lanczos(x) {
  return x > -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

function bicubic(x) {
  const a = -0.5, y = Math.abs(x);
  if (y < 1) return ((a + 2) * y - (a + 3)) * y * y + 1;
  return y < 2 ? (((y - 5) * y + 8) * y - 4) * a : 0;
}

function hamming(x) {
  const y = Math.abs(x);
  if (y >= 1) return 0;
  return y === 0 ? 1 : (Math.sin(y * Math.PI) / (y * Math.PI)) * (0.54 + 0.46 * Math.cos(y * Math.PI));
}

// For each of `outSize` positions: the first input position, and whole-number weights of those from there on.
function coefficients(inSize, outSize, filter) {
  const scale = inSize / outSize, filterScale = Math.max(scale, 1);
  const support = filter.support * filterScale;
  return Array.from({ length: outSize }, (_, position) => {
    const centre = (position + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(inSize, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(end - first);
    let total = 0;
    for (let i = 0; i < weights.length; i++) {
      weights[i] = filter.weight((i + first - centre + 0.5) / filterScale);
      total += weights[i];
    }
    for (let i = 0; i < weights.length; i++) {
      const exact = (total === 0 ? weights[i] : weights[i] / total) * 2 ** PRECISION_BITS;
      weights[i] = Math.trunc(exact < 0 ? exact - 0.5 : exact + 0.5);
    }
    return { first, weights };
  });
}

function clip8(sum) {
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION_BITS)));
}

// Resizes along one axis. `stride` steps along it, `lines` start offsets of the lines to resize, in pixels.
function pass(source, target, taps, lines, stride, targetOffset, channels) {
  const half = 2 ** (PRECISION_BITS - 1);
  for (let line = 0; line < lines.length; line++) {
    for (let position = 0; position < taps.length; position++) {
      const { first, weights } = taps[position];
      const from = (lines[line] + first * stride) * channels, to = targetOffset(line, position) * channels;
      for (let channel = 0; channel < 3; channel++) {
        let sum = half;
        for (let i = 0, at = from + channel; i < weights.length; i++, at += stride * channels) {
          sum += source[at] * weights[i];
        }
        target[to + channel] = clip8(sum);
      }
    }
  }
}

/**
 * @param {{data: Uint8ClampedArray, width: number, height: number}} image RGBA; the alpha channel is not looked at.
 * @param {number} width of the result in pixels
 * @param {number} height of the result in pixels
 * @param {number} resample Pillow's number of a filter: 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming
 * @returns {{data: Uint8ClampedArray, width: number, height: number}} RGBA
 */
export function resize(image, width, height, resample) {
  const filter = FILTERS[resample];
  if (!filter) throw new Error(`no resampling filter ${resample}`);
  let { data } = image;
  if (width !== image.width) {
    const resized = new Uint8ClampedArray(width * image.height * 4);
    const rows = Array.from({ length: image.height }, (_, row) => row * image.width);
    pass(data, resized, coefficients(image.width, width, filter), rows, 1, (line, x) => line * width + x, 4);
    data = resized;
  }
  if (height !== image.height) {
    const resized = new Uint8ClampedArray(width * height * 4);
    const columns = Array.from({ length: width }, (_, column) => column);
    pass(data, resized, coefficients(image.height, height, filter), columns, width, (line, y) => y * width + line, 4);
    data = resized;
  }
  return { data, width, height };
}

/**
 * What the image processor of the model makes of an image.
 * @param {{data: Uint8ClampedArray, width: number, height: number}} image RGBA
 * @param {{resample: number, size: number[], scale: number[], offset: number[]}} processor size is [height, width];
 *        a value is pixel * scale + offset, by channel
 * @returns {Float32Array} [3, height, width]
 */
export function pixelValues(image, processor) {
  const [height, width] = processor.size;
  const { data } = resize(image, width, height, processor.resample);
  const n = height * width, values = new Float32Array(3 * n);
  for (let channel = 0; channel < 3; channel++) {
    const scale = Math.fround(processor.scale[channel]), offset = Math.fround(processor.offset[channel]);
    for (let at = 0; at < n; at++) values[channel * n + at] = Math.fround(data[at * 4 + channel] * scale) + offset;
  }
  return values;
}
