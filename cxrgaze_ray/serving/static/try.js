// The try-it page: one picture at a time, in this page's memory and nowhere else.

import { drawMap, drawPicture } from "./overlay.js";

const at = (id) => document.getElementById(id);
const MEANS = {
  saliency: "Where the model predicts that a radiologist would look.",
  none: "",
};

let token = "";
let model = null;
let last = null; // { file, found }
let waiting = null; // the file to score once the service has let this page in
let asking = 0; // the number of the request whose answer is wanted: a later picture makes an earlier one's answer old

class Refused extends Error {
  constructor(code, body) {
    super(body.error || `The service answered ${code}.`);
    this.code = code;
    this.reason = body.reason || "";
  }
}

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

function say(text) {
  at("status").textContent = text;
}

function refuse(error) {
  const known = error instanceof Refused;
  const text = known ? error.message : "The service can't be reached.";
  at("refusal").textContent = known && error.reason ? `${text} (${error.reason})` : text;
  at("refusal").hidden = false;
  say("");
  if (known && error.code === 401) askForToken();
}

function askForToken() {
  at("access").hidden = false;
  at("token").value = "";
  at("token").focus();
  if (waiting) say("Enter the token; the picture is scored then.");
}

async function meet() {
  try {
    model = await ask("v1/model");
  } catch (error) {
    at("model").textContent = error.code === 401 ? "The model is shown to who has the token." : "No model yet.";
    if (error.code === 401 && !token) askForToken();
    else refuse(error);
    return false;
  }
  at("access").hidden = true;
  at("refusal").hidden = true;
  const trained = model.trained ? "" : ", untrained: its answers mean nothing";
  at("model").textContent = `${model.name} ${model.version}${trained}, ${model.profile}, ${model.engine}`;
  for (const radio of document.getElementsByName("over")) {
    const built = { saliency: model.predicts.includes("saliency"), grad_cam: model.grad_cam, none: true }[radio.value];
    radio.disabled = !built;
    radio.parentElement.hidden = !built;
  }
  const chosen = document.querySelector("input[name=over]:not(:disabled)");
  chosen.checked = true;
  return true;
}

async function score(file) {
  const mine = ++asking;
  at("refusal").hidden = true;
  at("result").hidden = true;
  last = null;
  waiting = file;
  say("Scoring the picture.");
  try {
    if (!model && !(await meet())) return; // why not has been said
    const found = await ask("v1/predict?picture=true", { method: "POST", body: file });
    if (mine !== asking) return;
    waiting = null;
    last = { file, found };
    await show();
    say(found.prediction ? `Scored: ${words(found.prediction)}.` : "Scored.");
    at("found-head").focus({ preventScroll: true });
  } catch (error) {
    if (mine !== asking) return;
    if (error.code !== 401) waiting = null;
    refuse(error);
  }
}

const words = (name) => name.replaceAll("_", " ");
const percent = (share) => `${(100 * share).toFixed(1)}%`;

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

async function show() {
  const { found } = last;
  at("result").hidden = false;
  at("prediction").textContent = found.prediction
    ? `Most probable: ${words(found.prediction)}` : "This model predicts no classes.";
  at("bars").replaceChildren(...Object.entries(found.probabilities || {}).map(([name, share]) => bar(name, share, found)));
  at("facts").replaceChildren(...facts(found).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  await drawPicture(at("picture"), found.picture);
  await lay();
}

function bar(name, share, found) {
  const row = element("div", "");
  const value = element("dd", "");
  const meter = element("meter", percent(share));
  meter.max = 1;
  meter.value = share;
  meter.style.setProperty("--share", share); // browsers draw a meter's own bar each in their way
  meter.setAttribute("aria-label", `${words(name)}: ${percent(share)}`);
  value.append(meter);
  const kind = name === found.prediction ? "most" : "";
  row.append(element("dt", words(name), kind), value, element("dd", percent(share), `number ${kind}`));
  return row;
}

function facts(found) {
  const source = found.saliency?.affine;
  return [
    ["View", found.view_position || "not stated"],
    ["Polarity", found.photometric_check || "not checked"],
    ["Oddities", (found.oddities || []).map(words).join(", ") || "none"],
    ...(source ? [["Size", `${source.rows} rows, ${source.columns} columns`]] : []),
    ["Model", `${found.model.name} ${found.model.version}`],
    ["Weights", found.model.weights_sha256.slice(0, 16)],
  ];
}

async function lay() {
  const { file, found } = last;
  const over = document.querySelector("input[name=over]:checked").value;
  if (over === "grad_cam" && !found.grad_cam) {
    say("Computing Grad-CAM.");
    const mine = asking;
    const explained = await ask("v1/predict?cam=true", { method: "POST", body: file });
    if (mine !== asking) return;
    found.grad_cam = explained.grad_cam;
    say("Grad-CAM is shown.");
  }
  const map = found[over];
  at("map").hidden = !map;
  const cam = found.grad_cam;
  at("over-means").textContent = over === "grad_cam" ? `${cam.meaning} It explains: ${words(cam.target)}.` : MEANS[over];
  at("caption").textContent = "The picture as the model saw it.";
  if (!map) return;
  const where = await drawMap(at("map"), map, found.picture.shown);
  at("caption").textContent = `The picture as the model saw it; the map is ${where}.`;
  fade();
}

function fade() {
  const share = at("strength").value;
  at("map").style.opacity = share / 100;
  at("strength-told").textContent = `${share}%`;
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  meet().then((met) => {
    if (met && waiting) score(waiting);
    else if (met) at("file").focus();
  });
});
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  at("file").value = ""; // the same file may be chosen again
  if (file) score(file);
});
at("strength").addEventListener("input", fade);
for (const radio of document.getElementsByName("over")) {
  radio.addEventListener("change", () => last && lay().catch(refuse));
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    const [file] = kind === "drop" ? event.dataTransfer.files : [];
    if (file) score(file);
  });
}
meet();
