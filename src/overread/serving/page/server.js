// Asking the server, and what went wrong as the sentence that a person reads. Nothing else in the page calls fetch.

export class Problem extends Error {
  constructor(status, { error = "", what = "", todo = "", id = "" } = {}, wait = 0) {
    super([what, what.includes(todo) ? "" : todo].filter(Boolean).map(sentence).join(" "));
    Object.assign(this, { status, code: error, id, wait });
  }
}

const AWAY = "The server does not answer. It may have been closed, or the connection is lost; nothing of what you see was sent elsewhere.";
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");

let enter = null; // asks for the token; set by the page

export function onToken(asks) { enter = asks; }

/** The answer to a request, which has gone well; asks for the token where one is wanted, and then again. */
async function answered(path, options) {
  for (;;) {
    let response;
    try {
      response = await fetch(path, { credentials: "same-origin", ...options });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { error: "away", what: AWAY });
    }
    if (response.ok) return response;
    const told = await response.json().catch(() => ({ what: `the server answered ${response.status}` }));
    if (response.status === 401 && enter && path !== "session") {
      await enter();
      continue;
    }
    throw new Problem(response.status, told, Number(response.headers.get("Retry-After")) || 0);
  }
}

/** A form of files and other fields. */
export function form(files, fields = {}) {
  const made = new FormData();
  for (const file of files) made.append("file", file, file.name);
  for (const [name, value] of Object.entries(fields)) if (value) made.append(name, value);
  return made;
}

export const get = async (path) => (await answered(path)).json();
export const text = async (path) => (await answered(path)).text();
export const post = async (path, body, signal) => (await answered(path, { method: "POST", body, signal })).json();

/** The session that stands for a token; the token is not kept. */
export async function open(token) {
  await answered("session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
}

/** Each line of an answer, as soon as it is there. */
export async function* lines(path, body, signal) {
  const reader = (await answered(path, { method: "POST", body, signal })).body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    let found;
    try {
      found = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { error: "away", what: AWAY });
    }
    held += found.value ?? "";
    const parts = held.split("\n");
    held = parts.pop();
    for (const part of parts) if (part.trim()) yield JSON.parse(part);
    if (found.done) return;
  }
}

/** A head in JSON, and the bytes that follow it. */
export async function bytes(path, body, signal) {
  const all = new Uint8Array(await (await answered(path, { method: "POST", body, signal })).arrayBuffer());
  const end = all.indexOf(10);
  return { head: JSON.parse(new TextDecoder().decode(all.subarray(0, end))), data: all.slice(end + 1).buffer };
}

/** Whether it answers at all. */
export async function alive() {
  try {
    return (await fetch("healthz")).ok;
  } catch {
    return false;
  }
}
