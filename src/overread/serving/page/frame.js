// What is around the subject of each page: what went wrong, facts, keys, dialogs, the token.

import { make } from "./answer.js";
import { Problem, alive, onToken, open } from "./server.js";

export const at = (id) => document.getElementById(id);
export const put = (id, ...children) => at(id).replaceChildren(...children);

/** Names and what they are, in a list of definitions. */
export const facts = (id, pairs) => put(id, ...pairs.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));

export function quiet() { put("trouble"); }

/** Whether the server did not answer at all. */
export const isAway = (error) => error instanceof Problem && error.status === 0;

/** Say what went wrong, with a button for `again` where that is given. */
export function problem(what, error, again = null) {
  const button = make("button", "", "Try again");
  button.type = "button";
  button.addEventListener("click", () => { quiet(); again(); });
  put("trouble", make("p", "", make("strong", "", isAway(error) ? "Connection lost. " : what), error.message), ...(error.id ? [make("p", "soft small", `Id of this answer: ${error.id}`)] : []), ...(again ? [button] : []));
}

let watching = false;
/** When the server answers again, take back what was said of it and do `then`. */
export async function watch(then) {
  if (watching) return;
  watching = true;
  while (!(await alive())) await new Promise((done) => setTimeout(done, 3000));
  watching = false;
  if (at("trouble").firstChild) { quiet(); then(); }
}

/** Listen to `keys` (what is printed on them, what they do in words, functions by key) and list them; `first` may take a key before them. */
export function listen(keys, first = () => false) {
  const does = Object.assign({}, ...keys.map(([, , functions]) => functions));
  put("key-list", ...keys.flatMap(([names, words]) => [make("dt", "", make("kbd", "", names)), make("dd", "", words)]));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || first(event)) return;
    if (event.target.matches("input:not([type=range], [type=radio], [type=checkbox], [type=file]), select, textarea") || !at("single").checked) return;
    if (!does[event.key]) return;
    event.preventDefault();
    does[event.key]();
  });
}

let entering = null;
/** Ask for the token, until one is right; whatever waits for it goes on then. */
function token() {
  entering ??= new Promise((done) => {
    const box = at("token-box");
    at("enter").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await open(at("token").value);
        at("token").value = at("token-said").textContent = "";
        box.close();
        entering = null;
        done();
      } catch (error) { at("token-said").textContent = error.message; at("token").select(); }
    };
    box.oncancel = (event) => event.preventDefault();
    box.showModal();
  });
  return entering;
}

/** Open and close dialogs; `about` is called when that one is asked for. */
export function dialogs(about) {
  at("to-about").addEventListener("click", about);
  at("to-keys").addEventListener("click", () => at("keys").showModal());
  for (const close of document.querySelectorAll(".close")) close.addEventListener("click", () => close.closest("dialog").close());
  onToken(token);
}
