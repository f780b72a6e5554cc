// The page: reads images, asks the model, shows the answers, and saves them sorted. Nothing leaves the device.

const MAX_PIXELS = 200_000_000;
const MAX_SHOWN_CLASSES = 5;
const THUMBNAIL_PX = 192;
const RUNTIME_ID = "runtime", WASM_ID = "runtime-wasm", MODEL_ID = "model";

const $ = (id) => document.getElementById(id);
const info = JSON.parse($("model-info").textContent);
const results = []; // {file, answer, item} in the order in which they were given
let shownLabel = null;
let queue = Promise.resolve();
let nWaiting = 0, nDone = 0, startedAt = 0;

// A file beside the page, or embedded content, unzipped.
async function content(id) {
  const file = info.files?.[id];
  if (file) {
    const response = await fetch(file);
    if (!response.ok) throw new Error(`${file} is missing (${response.status})`);
    return response.arrayBuffer();
  }
  const element = $(id);
  const bytes = Uint8Array.from(atob(element.textContent), (character) => character.charCodeAt(0));
  element.remove(); // The text would stay in memory beside what was made of it.
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function loadModel() {
  const script = URL.createObjectURL(new Blob([await content(RUNTIME_ID)], { type: "text/javascript" }));
  const ort = await import(script);
  ort.env.wasm.numThreads = 1; // Threads need headers that a file does not have.
  ort.env.wasm.wasmBinary = await content(WASM_ID);
  const session = await ort.InferenceSession.create(new Uint8Array(await content(MODEL_ID)));
  return { ort, session };
}

const model = loadModel();
model.then(
  () => say("Ready."),
  (error) => say(`The model could not be loaded: ${error.message}. A current Chrome, Edge, Firefox or Safari is needed.`),
);

function say(text) {
  $("status").textContent = text;
}

// Pixels as the training saw them: rotated as the camera says, without colour management, transparency on white.
async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image",
  });
  try {
    if (bitmap.width * bitmap.height > MAX_PIXELS) {
      throw new Error(`${bitmap.width} × ${bitmap.height} pixels are more than this page can take`);
    }
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
    context.fillStyle = "white";
    context.fillRect(0, 0, bitmap.width, bitmap.height);
    context.drawImage(bitmap, 0, 0);
    const thumbnail = await thumbnailOf(bitmap);
    return { image: context.getImageData(0, 0, bitmap.width, bitmap.height), thumbnail };
  } finally {
    bitmap.close();
  }
}

async function thumbnailOf(bitmap) {
  const scale = Math.min(1, THUMBNAIL_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(
    Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)),
  );
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 }));
}

// Browsers cut 16 bits per channel to 8; Python scales them, so the last digits can differ.
async function noteOn(blob) {
  const head = new Uint8Array(await blob.slice(0, 26).arrayBuffer());
  const isPng = head[0] === 0x89 && head[1] === 0x50;
  return isPng && head[24] === 16 ? "16 bits per channel: probabilities can differ slightly from the Python tools" : "";
}

async function classify(file) {
  const { ort, session } = await model;
  let found;
  try {
    found = await pixelsOf(file);
  } catch (error) {
    const reason = error.message?.includes("pixels") ? error.message : "this browser cannot decode the file as an image";
    return { label: UNREADABLE, predicted: "", confidence: null, knownScore: null, accepted: null, reason, probabilities: [] };
  }
  const values = pixelValues(found.image, info.processor);
  const outputs = await session.run({ pixel_values: new ort.Tensor("float32", values, [1, 3, ...info.processor.size]) });
  const score = outputs.known_score ? Number(outputs.known_score.data[0]) : null;
  return { ...decide(outputs.logits.data, score, info), thumbnail: found.thumbnail, note: await noteOn(file) };
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function percent(share) {
  return share > 0.999 ? "> 99.9 %" : `${(share * 100).toFixed(1)} %`;
}

function shown(file, answer) {
  const item = element("li");
  const thumbnail = element("img");
  thumbnail.alt = "";
  if (answer.thumbnail) thumbnail.src = answer.thumbnail;
  const text = element("div");
  const special = [UNKNOWN, UNREADABLE].includes(answer.label) && !info.class_names.includes(answer.label);
  text.append(element("p", `label${special ? ` ${answer.label}` : ""}`, answer.label), element("p", "file", file.name));
  for (const paragraph of text.children) paragraph.style.margin = "0";
  for (const note of [answer.reason, answer.note]) if (note) text.append(element("p", "reason", note));
  const best = answer.probabilities.map((share, label) => [share, info.class_names[label]])
    .sort(([one], [other]) => other - one).slice(0, MAX_SHOWN_CLASSES);
  const list = element("dl");
  for (const [share, name] of best) {
    const bar = element("dd", "bar");
    bar.append(element("i"));
    bar.firstChild.style.width = `${share * 100}%`;
    list.append(element("dt", "", name), element("dd", "share", percent(share)), bar);
  }
  text.append(list);
  item.append(thumbnail, text);
  return item;
}

function add(files) {
  const images = [...files];
  if (!images.length) return;
  if (nWaiting === 0) [nDone, startedAt] = [0, performance.now()];
  nWaiting += images.length;
  $("progress").hidden = false;
  for (const file of images) queue = queue.then(() => one(file));
}

async function one(file) {
  let failure = "";
  try {
    const answer = await classify(file);
    const item = shown(file, answer);
    results.push({ file, answer, item });
    item.hidden = shownLabel !== null && answer.label !== shownLabel;
    $("results").append(item);
  } catch (error) {
    failure = `${file.name}: ${error.message}`;
  } finally {
    nDone++;
    progressed();
    if (failure) say(failure);
    await new Promise((resolve) => setTimeout(resolve)); // The page stays alive between two images.
  }
}

function progressed() {
  const isDone = nDone >= nWaiting;
  const rate = nDone / ((performance.now() - startedAt) / 1000);
  $("progress").value = nDone / nWaiting;
  $("progress").hidden = isDone;
  say(isDone ? `${results.length} image${results.length === 1 ? "" : "s"} done.` : `${nDone} of ${nWaiting}, ${rate.toFixed(1)} images per second`);
  if (isDone) nWaiting = 0;
  summarise();
}

function summarise() {
  $("toolbar").hidden = results.length === 0;
  const counts = new Map();
  for (const { answer } of results) counts.set(answer.label, (counts.get(answer.label) ?? 0) + 1);
  const buttons = [...counts].sort(([, one], [, other]) => other - one).map(([label, n]) => {
    const button = element("button", "", `${label}: ${n}`);
    button.type = "button";
    button.setAttribute("aria-pressed", String(label === shownLabel));
    button.addEventListener("click", () => show(label === shownLabel ? null : label));
    return button;
  });
  $("counts").replaceChildren(...buttons);
}

function show(label) {
  shownLabel = label;
  for (const { answer, item } of results) item.hidden = label !== null && answer.label !== label;
  summarise();
}

function rows() {
  const header = ["file", "label", "predicted", "confidence", "known_score", "accepted", "reason"];
  const own = results.map(({ file, answer }) => [
    file.name, answer.label, answer.predicted, digits(answer.confidence), digits(answer.knownScore), answer.accepted,
    answer.reason, ...info.class_names.map((_, label) => digits(answer.probabilities[label])),
  ]);
  return [[...header, ...info.class_names.map((name) => `p_${name}`)], ...own];
}

function digits(value) {
  return value === null || value === undefined ? "" : Number(value.toFixed(6));
}

// Every image once, in the folder of its label, and the table.
function sorted() {
  const folders = new Map(), names = new Map(), taken = new Set();
  const entries = results.map(({ file, answer }) => {
    if (!folders.has(answer.label)) folders.set(answer.label, freeName(safeName(answer.label), taken));
    const folder = folders.get(answer.label);
    if (!names.has(folder)) names.set(folder, new Set());
    return { folder, name: freeName(safeName(file.name || "image"), names.get(folder)), blob: file, time: file.lastModified ?? Date.now() };
  });
  return [...entries, { folder: "", name: freeName("answers.csv", taken), blob: table(), time: Date.now() }];
}

function table() {
  return new Blob([csv(rows())], { type: "text/csv" });
}

function save(blob, name) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function reported(action) {
  try {
    await action();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

async function saveZip() {
  say("Packing…");
  const entries = sorted().map(({ folder, name, blob, time }) => ({ path: folder ? `${folder}/${name}` : name, blob, time }));
  save(await zip(entries), "sorted.zip");
  say(`${results.length} images are in sorted.zip, one folder per answer.`);
}

async function saveFolder() {
  const root = await showDirectoryPicker({ mode: "readwrite" });
  let nWritten = 0;
  for (const { folder, name, blob } of sorted()) {
    const target = folder ? await root.getDirectoryHandle(folder, { create: true }) : root;
    const stream = await (await newFile(target, name)).createWritable();
    await stream.write(blob);
    await stream.close();
    nWritten++;
  }
  say(`${nWritten - 1} images and answers.csv are in ${root.name}; nothing there was replaced.`);
}

async function newFile(folder, name) {
  const taken = new Set();
  for await (const other of folder.keys()) taken.add(other.toLowerCase());
  return folder.getFileHandle(freeName(name, taken), { create: true });
}

function clear() {
  for (const { answer } of results) if (answer.thumbnail) URL.revokeObjectURL(answer.thumbnail);
  results.length = 0;
  $("results").replaceChildren();
  show(null);
  say("Ready.");
}

$("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
for (const name of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") dropped(event.dataTransfer).then(add);
  });
}

// Files, and those in dropped folders, each folder sorted by name.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry) {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  for (;;) { // A reader gives at most a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((one, other) => (one.name < other.name ? -1 : 1));
  return (await Promise.all(found.map(filesIn))).flat();
}

document.addEventListener("paste", (event) => add(event.clipboardData.files));
$("save-zip").addEventListener("click", () => reported(saveZip));
$("save-csv").addEventListener("click", () => save(table(), "answers.csv"));
$("save-folder").addEventListener("click", () => reported(saveFolder));
$("save-folder").hidden = !("showDirectoryPicker" in window);
$("clear").addEventListener("click", clear);
