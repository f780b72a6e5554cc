// From what the network computes to what is said about an image. The same rule as portable/open_set.py.

export const UNKNOWN = "unknown";
export const UNREADABLE = "unreadable";

/** Probabilities of logits, in double precision. */
export function softmax(logits) {
  const largest = Math.max(...logits);
  const shares = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

/**
 * @param {ArrayLike<number>} logits one per class
 * @param {?number} knownScore higher means more like the training images; null where the model has none
 * @param {{class_names: string[], open_set: ?{thresholds: number[], references: {scores: number[],
 *          weights: number[]}[]}}} model thresholds and validation images, by predicted class
 * @returns {{label: string, predicted: string, confidence: number, knownScore: ?number, accepted: ?boolean,
 *            reason: string, probabilities: number[]}}
 */
export function decide(logits, knownScore, model) {
  const probabilities = softmax(logits);
  const best = probabilities.indexOf(Math.max(...probabilities));
  const predicted = model.class_names[best];
  const answer = { predicted, confidence: probabilities[best], probabilities, knownScore, accepted: null, reason: "" };
  if (!model.open_set || knownScore === null) return { ...answer, label: predicted };
  const { thresholds, references } = model.open_set;
  const accepted = knownScore >= thresholds[best];
  const reason = accepted ? "" : inWords(knownScore, references[best] ?? references[0]);
  return { ...answer, label: accepted ? predicted : UNKNOWN, accepted, reason };
}

function inWords(knownScore, { scores, weights }) {
  let total = 0, above = 0;
  for (let i = 0; i < scores.length; i++) {
    total += weights[i];
    if (scores[i] > knownScore) above += weights[i];
  }
  const share = above / total;
  const amount = share >= 1 - 1e-12 ? `all ${scores.length}` : `${Math.floor(100 * share)} % of the`;
  return `less like the training images than ${amount} validation images`;
}

/** The rows of a CSV file with a byte order mark, so that a spreadsheet knows it is UTF-8. */
export function csv(rows) {
  return "\ufeff" + rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function cell(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  const isNumber = typeof value === "number" || /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text);
  if (!isNumber && /^'*[=+\-@\t\r]/.test(text)) text = `'${text}`; // A spreadsheet would run it as a formula.
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** `name` as a file or folder name that every system takes. */
export function safeName(name) {
  const safe = name.replace(/[\u0000-\u001f\u007f<>:"/\\|?*\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "_")
    .replace(/[. ]+$/, "_");
  return !safe || /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i.test(safe) ? `_${safe}` : safe;
}

/** `name`, with a number before its ending if `taken` has it already in any case; adds it to `taken`. */
export function freeName(name, taken) {
  const dot = name.lastIndexOf("."), stem = dot > 0 ? name.slice(0, dot) : name, ending = name.slice(stem.length);
  let free = name;
  for (let n = 2; taken.has(free.toLowerCase()); n++) free = `${stem} (${n})${ending}`;
  taken.add(free.toLowerCase());
  return free;
}
