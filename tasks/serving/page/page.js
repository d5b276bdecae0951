"use strict";
// Data reaches the page as text nodes and numbers only, never as markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let cloud = null; // users on the plane
let asked = 0; // number of the newest question: answers to older ones are dropped

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function shape(name, className, attributes) {
  const made = document.createElementNS(SVG, name);
  made.setAttribute("class", className);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

function say(text, wrong) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", Boolean(wrong));
}

async function request(path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if ($("token").value) headers.Authorization = "Bearer " + $("token").value;
  const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  if (response.ok) return response;
  if (response.status === 401 && $("secret").hidden) {
    $("secret").hidden = false;
    $("token").focus();
  }
  const told = await response.json().catch(() => ({}));
  throw new Error(told.detail || "the server answered " + response.status);
}

function person() {
  const titles = $("liked").value.split(";").map((title) => title.trim()).filter(Boolean);
  const user = $("user").value.trim();
  if (user && titles.length) throw new Error("Name a user or liked titles, not both.");
  if (!user && !titles.length) throw new Error("Name a user, or titles that somebody likes.");
  return user ? { user_id: user } : { liked: titles };
}

async function ask(event) {
  event.preventDefault();
  const number = ++asked;
  const button = $("ask").querySelector("button");
  button.disabled = true;
  try {
    const who = person();
    say("Ranking …");
    const profile = await (await request("profile", who)).json();
    if (!cloud) cloud = await (await request("map")).json();
    const found = await (await request("recommend", { ...who, top_k: 10, candidates: $("candidates").valueAsNumber })).json();
    if (number !== asked) return;
    show(who, profile, found);
    const count = found.recommendations.length;
    say(count ? count + " recommendations for " + profile.name : "Nothing is left to recommend to " + profile.name);
  } catch (error) {
    say(error.message, true);
  } finally {
    if (number === asked) button.disabled = false;
  }
}

function show(who, profile, found) {
  $("bundle").textContent = "bundle " + found.bundle;
  const scores = found.recommendations.map((row) => row.score);
  const low = Math.min(...scores), span = Math.max(...scores) - low || 1;
  $("list").replaceChildren(...found.recommendations.map((row) => listed(who, row, 20 + 80 * (row.score - low) / span)));
  const words = { general: "The general adapter answers.", single: "One expert answers.", fusion: "Several experts answer together." };
  $("route").textContent = words[profile.route] || profile.route;
  $("gates").replaceChildren(...Object.entries(profile.gates).map(gate));
  draw(profile);
  $("history").replaceChildren(...profile.history.map((item) => {
    const row = element("li");
    row.append(element("span", "", item.title), item.label ? element("span", "yes", "liked") : element("span", "no", "not liked"));
    return row;
  }));
  $("history-name").textContent = profile.history.length ? "History, newest first" : "No history";
  $("result").hidden = false;
}

function listed(who, row, width) {
  const item = element("li"), button = element("button", "row");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  const score = element("span", "score"), bar = document.createElementNS(SVG, "svg");
  bar.setAttribute("aria-hidden", "true");
  bar.append(shape("rect", "bar", { width: width + "%", height: "100%", rx: 3 }));
  score.append(bar, element("span", "", (row.score < 0 ? "−" : "+") + Math.abs(row.score).toFixed(3)));
  const rise = row.encoder_rank - row.rank;
  const moved = element("span", "moved" + (rise > 0 ? " up" : rise < 0 ? " down" : ""),
    (rise > 0 ? "▲ " + rise : rise < 0 ? "▼ " + -rise : "＝") + " from CF " + row.encoder_rank);
  button.append(element("span", "rank", String(row.rank)), element("span", "title", row.title), score, moved);
  const why = element("div", "why");
  why.hidden = true;
  why.setAttribute("aria-live", "polite");
  let begun = false;
  button.addEventListener("click", () => {
    why.hidden = !why.hidden;
    button.setAttribute("aria-expanded", String(!why.hidden));
    if (!begun) {
      begun = true;
      explain(who, row, why).catch((error) => {
        begun = false;
        why.replaceChildren(element("p", "warn", error.message));
      });
    }
  });
  item.append(button, why);
  return item;
}

async function explain(who, row, why) {
  const text = element("p", "text", "…");
  why.replaceChildren(text);
  if (row.strongest.length) why.append(element("p", "quiet", "Nearest in the history: " + row.strongest.join(", ")));
  const reader = (await request("explain", { ...who, item_id: row.item_id })).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", finished = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map((each) => JSON.parse(each))) {
      if (line.error) throw new Error(line.error);
      if (line.text !== undefined) text.textContent = line.text;
      if (line.done) {
        finished = true;
        mark(text, line.text, line.ungrounded);
        why.append(line.ungrounded.length
          ? element("p", "warn", "Named, but not in the history: " + line.ungrounded.join(", "))
          : element("p", "quiet", "Names no title outside of the history."));
      }
    }
  }
  if (!finished) throw new Error("the explanation broke off");
}

function mark(where, text, names) {
  where.textContent = "";
  let at = 0;
  while (at < text.length) {
    const next = names.map((name) => [text.indexOf(name, at), name]).filter((pair) => pair[0] >= 0)
      .sort((one, other) => one[0] - other[0])[0];
    if (!next) break;
    where.append(text.slice(at, next[0]), element("mark", "", next[1]));
    at = next[0] + next[1].length;
  }
  where.append(text.slice(at));
}

function colour(name) {
  const number = name.split("_")[1];
  return number === undefined ? "general" : "k" + Number(number) % 6;
}

function gate([name, weight]) {
  const row = element("li"), bar = document.createElementNS(SVG, "svg");
  bar.setAttribute("aria-hidden", "true");
  bar.append(shape("rect", "track", { width: "100%", height: 10, rx: 5 }),
    shape("rect", colour(name), { width: 100 * weight + "%", height: 10, rx: 5 }));
  row.append(element("span", "", name.replace("_", " ")), bar, element("span", "", (100 * weight).toFixed(0) + "%"));
  return row;
}

function draw(profile) {
  const xs = [...cloud.x], ys = [...cloud.y], here = profile.position;
  if (here) { xs.push(here[0]); ys.push(here[1]); }
  const place = (values, from, to) => {
    const low = Math.min(...values), high = Math.max(...values);
    return (value) => from + (to - from) * (high > low ? (value - low) / (high - low) : 0.5);
  };
  const x = place(xs, 12, 308), y = place(ys, 208, 12);
  const dots = cloud.x.map((value, i) => shape("circle", "dot k" + cloud.cluster[i] % 6,
    { cx: x(value), cy: y(cloud.y[i]), r: cloud.x.length > 200 ? 2.5 : 4 }));
  if (here) dots.push(shape("circle", "here", { cx: x(here[0]), cy: y(here[1]), r: 8 }));
  $("map").replaceChildren(...dots);
  $("map-name").textContent = "Users by cluster, in the colours of their experts" + (here ? "; the ring is " + profile.name : "") + ".";
}

function suggest(input, list, path, last) {
  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const parts = last ? input.value.split(";") : [input.value];
      const typed = parts.pop().trim(), before = parts.map((part) => part.trim() + "; ").join("");
      try {
        const found = await (await request(path + "?q=" + encodeURIComponent(typed.slice(0, 200)))).json();
        list.replaceChildren(...found.names.map((name) => {
          const option = element("option");
          option.value = before + name;
          return option;
        }));
      } catch { list.replaceChildren(); }
    }, 150);
  });
}

$("ask").addEventListener("submit", ask);
suggest($("user"), $("users"), "users", false);
suggest($("liked"), $("titles"), "titles", true);
request("health").then((response) => response.json()).then((told) => { $("bundle").textContent = "bundle " + told.bundle; })
  .then(() => request("users")).then((response) => response.json())
  .then((found) => $("users").replaceChildren(...found.names.map((name) => Object.assign(element("option"), { value: name }))))
  .catch((error) => say(error.message, true));
