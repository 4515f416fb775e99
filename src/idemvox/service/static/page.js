// The page of the idemvox service: record, listen back, enrol, compare, delete.
// What others wrote (names, messages) only ever becomes text, never HTML.

const LONGEST = 30; // seconds that are recorded
const at = (id) => document.getElementById(id);
const KEEP = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
const DECISIONS = {
  accept: "The same speaker", reject: "Different speakers", abstain: "No decision",
  nobody: "Nobody who is enrolled", undecided: "No decision",
};

let key = ""; // in memory alone
let health = null;
let recording = null; // {blob, name}
let session = null; // while recording
let starting = false; // while the microphone is being opened

// --- talking to the service

async function call(method, path, form) {
  let response;
  try {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    response = await fetch(path, { method, headers, body: form });
  } catch {
    throw new Error("The service does not answer. Is it running, and are you connected?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  if (response.status === 401) at("access").hidden = false;
  const text = answer?.error?.message ?? `The service answered with status ${response.status}.`;
  throw new Error(text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : "."));
}

function say(text) { at("status").textContent = text; }

async function attempt(button, words, work) {
  if (button?.getAttribute("aria-disabled") === "true") return;
  at("message").textContent = "";
  const label = button?.textContent;
  if (button) { button.setAttribute("aria-disabled", "true"); button.textContent = words; }
  try {
    await work();
  } catch (error) {
    at("message").textContent = error.message;
  } finally {
    if (button) { button.removeAttribute("aria-disabled"); button.textContent = label; }
  }
}

// --- recording

async function startRecording() {
  starting = true;
  at("clock").textContent = "0.0 s";
  await openMicrophone().finally(() => { starting = false; });
}

async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("This browser gives no microphone here. Open the page by https or on localhost, or choose a file.");
  }
  const stream = await navigator.mediaDevices.getUserMedia({ audio: KEEP }).catch(() => {
    throw new Error("The microphone cannot be used. Allow it in the browser, or choose a file.");
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule("/recorder.js");
  const tap = new AudioWorkletNode(context, "tap");
  const blocks = [];
  let samples = 0;
  tap.port.onmessage = ({ data }) => {
    blocks.push(data);
    samples += data.length;
    if (blocks.length % 8 === 0) showProgress(samples / context.sampleRate, data);
    if (samples >= LONGEST * context.sampleRate) attempt(null, "", stopRecording);
  };
  context.createMediaStreamSource(stream).connect(tap);
  tap.connect(context.destination); // else some browsers do not run it
  session = { stream, context, tap, blocks };
  at("record").textContent = "Stop";
  at("clock").hidden = at("level").hidden = false;
  say("Recording.");
}

function showProgress(seconds, block) {
  at("clock").textContent = `${seconds.toFixed(1)} s`;
  const power = block.reduce((sum, x) => sum + x * x, 0) / block.length;
  const level = Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-9) / 6));
  at("level").firstElementChild.style.width = `${100 * level}%`;
}

function stopRecording() {
  if (!session) return;
  const { stream, context, tap, blocks } = session;
  session = null;
  tap.port.onmessage = null;
  stream.getTracks().forEach((track) => track.stop());
  const rate = context.sampleRate;
  context.close();
  at("record").textContent = "Record again";
  at("clock").hidden = at("level").hidden = true;
  at("file").value = "";
  const blob = wav(blocks, rate);
  take(blob, "microphone.wav", `Recorded, ${((blob.size - 44) / 2 / rate).toFixed(1)} s`);
}

function wav(blocks, rate) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (offset, letters) => [...letters].forEach((c, i) => view.setUint8(offset + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * count, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * count, true);
  let offset = 44;
  for (const block of blocks) {
    for (const x of block) {
      view.setInt16(offset, Math.max(-32768, Math.min(32767, Math.round(32768 * x))), true);
      offset += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}

function take(blob, name, words) {
  if (health && blob.size > health.max_bytes) {
    throw new Error(`This file is too large: at most ${Math.floor(health.max_bytes / 2 ** 20)} MiB are accepted.`);
  }
  recording = { blob, name };
  URL.revokeObjectURL(at("player").src);
  at("player").src = URL.createObjectURL(blob);
  at("what").textContent = words;
  at("listen").hidden = false;
  say(`${words}. Listen back, compare or enrol.`);
}

// --- enrolling, comparing, deleting

function audioForm(field) {
  if (session) stopRecording();
  if (!recording) throw new Error("There is no recording yet: record somebody, or choose a file.");
  const form = new FormData();
  form.append(field, recording.blob, recording.name);
  return form;
}

async function enrol() {
  const form = audioForm("recordings");
  form.append("speaker", at("name").value);
  const done = await call("POST", "/v1/enrol", form);
  const count = `${done.enrolments} recording${done.enrolments === 1 ? "" : "s"} in all`;
  const words = done.added ? `${done.speaker} is enrolled, ${count}.`
    : `${done.speaker} had been enrolled with this recording before.`;
  clearResult();
  at("decision").textContent = words;
  at("decision").className = "decision accept";
  showResult(words);
  at("name").value = "";
  await list(done.speaker);
}

async function compare() {
  const form = audioForm("recording");
  const name = at("claimed").selectedOptions[0]?.dataset.speaker;
  if (name === undefined) {
    showIdentification(await call("POST", "/v1/identify", form));
  } else {
    form.append("speaker", name);
    showVerdict(await call("POST", "/v1/verify", form), name);
  }
}

async function remove(name) {
  at("sure-words").textContent = `Delete the voice of ${name}? This cannot be undone.`;
  at("sure").returnValue = "no"; // which Escape leaves as it is
  at("sure").showModal();
  await new Promise((resolve) => at("sure").addEventListener("close", resolve, { once: true }));
  if (at("sure").returnValue !== "yes") return;
  const done = await call("DELETE", `/v1/speaker?name=${encodeURIComponent(name)}`);
  await list();
  say(`${done.speaker} is deleted.`);
  at("h-enrolled").tabIndex = -1;
  at("h-enrolled").focus();
}

async function list(chosen) {
  const { speakers, total } = await call("GET", "/v1/speakers");
  const before = chosen ?? at("claimed").selectedOptions[0]?.dataset.speaker;
  at("claimed").replaceChildren(new Option("everybody who is enrolled"));
  at("voices").replaceChildren();
  for (const { speaker, enrolments } of speakers) {
    const option = new Option(speaker, speaker, false, speaker === before);
    option.dataset.speaker = speaker;
    at("claimed").add(option);
    at("voices").append(row(speaker, enrolments));
  }
  at("nobody").hidden = total > 0;
  at("nobody").textContent = "Nobody yet.";
  if (total > speakers.length) {
    const more = document.createElement("li");
    more.textContent = `and ${total - speakers.length} more, who are not shown`;
    at("voices").append(more);
  }
}

function row(speaker, enrolments) {
  const item = document.createElement("li");
  const who = document.createElement("span");
  who.textContent = speaker;
  const count = document.createElement("span");
  count.className = "count";
  count.textContent = `${enrolments} recording${enrolments === 1 ? "" : "s"}`;
  who.append(count);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "danger";
  button.textContent = "Delete";
  button.setAttribute("aria-label", `Delete ${speaker}`);
  button.addEventListener("click", () => attempt(null, "", () => remove(speaker)));
  item.append(who, button);
  return item;
}

// --- results

function clearResult() {
  at("decision").className = "decision";
  at("reasons").replaceChildren();
  at("facts").replaceChildren();
  at("scale").hidden = at("candidates").hidden = true;
}

function showResult(words) {
  at("result").hidden = false;
  at("result").focus();
  say(words);
}

function reasons(lines) {
  for (const line of lines) {
    const item = document.createElement("li");
    item.textContent = line;
    at("reasons").append(item);
  }
}

function fact(term, text) {
  const name = document.createElement("dt");
  const value = document.createElement("dd");
  name.textContent = term;
  value.textContent = text;
  at("facts").append(name, value);
}

function showVerdict(verdict, name) {
  clearResult();
  const words = verdict.decision === "accept" ? `The voice of ${name}`
    : verdict.decision === "reject" ? `Not the voice of ${name}` : DECISIONS.abstain;
  at("decision").textContent = words;
  at("decision").classList.add(verdict.decision);
  reasons([...verdict.reasons, ...verdict.warnings.map((text) => `Warning: ${text}`)]);
  if (verdict.llr !== null) drawScale(verdict.llr, verdict.threshold, verdict.band);
  if (verdict.score !== null) fact("Score", verdict.score.toFixed(3) + (verdict.note ? `, ${verdict.note}` : ""));
  if (verdict.speech[0] !== null) fact("Speech", `${verdict.speech[0].toFixed(1)} s in this recording`);
  showResult(words);
}

function showIdentification(found) {
  clearResult();
  const words = found.decision === "speaker" ? `The voice of ${found.speaker}` : DECISIONS[found.decision];
  at("decision").textContent = words;
  at("decision").classList.add(found.decision);
  reasons([found.reason, ...found.warnings.map((text) => `Warning: ${text}`)]);
  const best = found.candidates[0]?.llr ?? null;
  if (best !== null) drawScale(best, found.threshold, null);
  const body = at("candidates").tBodies[0];
  body.replaceChildren();
  for (const { speaker, llr, score } of found.candidates) {
    const line = body.insertRow();
    for (const text of [speaker, llr === null ? "unknown" : llr.toFixed(2), score.toFixed(3)]) {
      line.insertCell().textContent = text;
    }
  }
  at("candidates").hidden = !found.candidates.length;
  showResult(words);
}

function drawScale(llr, threshold, band) {
  const marks = [llr, ...(threshold === null ? [] : [threshold]), ...(band ?? [])];
  const reach = Math.max(10, ...marks.map((x) => 1.15 * Math.abs(x)));
  const place = (x) => `${50 + (50 * x) / reach}%`;
  const figure = at("scale");
  const part = (name) => figure.querySelector(`.${name}`);
  part("mark").style.left = place(llr);
  part("mark").firstElementChild.textContent = llr.toFixed(2);
  part("threshold").hidden = threshold === null;
  if (threshold !== null) part("threshold").style.left = place(threshold);
  const wide = band !== null && band[1] > band[0];
  part("band").hidden = !wide;
  if (wide) {
    part("band").style.left = place(band[0]);
    part("band").style.right = `${50 - (50 * band[1]) / reach}%`;
  }
  part("low").textContent = (-reach).toFixed(0);
  part("high").textContent = `+${reach.toFixed(0)}`;
  at("scale-words").textContent = `Log-likelihood ratio ${llr.toFixed(2)}`
    + (threshold === null ? ", without a threshold." : `; the threshold is ${threshold.toFixed(2)} (the line).`)
    + (wide ? ` Between ${band[0].toFixed(2)} and ${band[1].toFixed(2)} (the shaded part) there is no decision.` : "");
  figure.hidden = false;
}

// --- the start

async function begin() {
  health = await call("GET", "/health");
  at("uncalibrated").hidden = health.calibrated;
  at("access").hidden = !health.needs_key;
  at("claimed").replaceChildren(new Option("everybody who is enrolled"));
  if (health.needs_key) at("nobody").textContent = "Enter your API key to see them.";
  else await list();
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  attempt(event.submitter, "Trying", async () => {
    await list();
    say("The key works.");
  });
});
at("record").addEventListener("click", () => {
  if (!starting) attempt(null, "", session ? stopRecording : startRecording);
});
at("file").addEventListener("change", () => attempt(null, "", async () => {
  const file = at("file").files[0];
  if (file) take(file, file.name, file.name);
}));
at("enrol").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(event.submitter, "Enrolling", enrol);
});
at("compare").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(event.submitter, "Comparing", compare);
});
attempt(null, "", begin);
