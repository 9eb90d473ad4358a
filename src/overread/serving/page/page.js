// The page of the reading room: a file in, probabilities out. Texts are set as text, never as markup.
const element = (id) => document.getElementById(id);
const say = (text) => { element("said").textContent = text; };

async function ask(path, options = {}) {
  const response = await fetch(path, options);
  if (response.status === 401) element("entry").hidden = false;
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.what}. ${answer.todo}`);
  return answer;
}

function show(answer) {
  const table = document.createElement("table");
  for (const { name, value } of answer.answers) {
    const row = table.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = value;
  }
  element("answer").replaceChildren(table);
  for (const warning of [...answer.calls.map((call) => `${call.at}: ${call.positive ? "positive" : "negative"} for ${call.of}`), ...answer.warnings]) {
    const line = document.createElement("p");
    line.textContent = warning;
    element("answer").append(line);
  }
}

element("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("reading …");
  try {
    show(await ask("predict", { method: "POST", body: new FormData(event.target) }));
    say("");
  } catch (error) { say(error.message); }
});

element("entry").addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { Authorization: `Bearer ${element("token").value}` };
  try {
    await ask("session", { method: "POST", headers });
    element("entry").hidden = true;
    say("");
  } catch (error) { say(error.message); }
});

ask("about").catch((error) => say(error.message));
