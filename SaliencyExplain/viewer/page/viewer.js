/* What the page does by itself: saying what is pressed after what was changed before, coming back
   after a lost connection, bringing answers into sight, keys, and files that are dropped on it. */
(function () {
  "use strict";

  const RETRY_MS = 1000;
  const CHANGES_MS = 5;

  async function comeBack() {
    let answer;
    try {
      answer = await fetch("/alive", { cache: "no-store" });
    } catch {
      setTimeout(comeBack, RETRY_MS);
      return;
    }
    if (answer.ok) {
      // The whole state lives in the viewer: a fresh page shows it as it was.
      location.reload();
      return;
    }
    const say = document.getElementById("se-lost-say");
    if (say) say.textContent = "Another viewer answers here now: open the address that it printed.";
  }

  /* A press is done once: what a lost connection has swallowed is said again by the page that
     comes back, and the viewer knows what it has done already. */
  const trame = window.trame;
  const say = trame.trigger;
  const kept = () => `se-presses-${trame.state.get("viewer")}`;
  const unanswered = JSON.parse(sessionStorage.getItem(kept()) || "[]");

  function forget(press) {
    unanswered.splice(unanswered.indexOf(press), 1);
    sessionStorage.setItem(kept(), JSON.stringify(unanswered));
  }

  /* The framework keeps changes back while anything waits for an answer. A press that is said
     meanwhile would overtake them, and be about what was there before. */
  const flush = trame.state.flush.bind(trame.state);
  let saying = Promise.resolve();
  trame.state.flush = (...keys) => {
    saying = flush(...keys);
    return saying;
  };

  async function changesSaid() {
    await saying;
    while (trame.state.dirtyKeys.size && trame.client.isConnected()) {
      await trame.state.flush();
      if (trame.state.dirtyKeys.size) await new Promise((go) => setTimeout(go, CHANGES_MS));
    }
  }

  let before = Promise.resolve();

  async function pressed(press) {
    // In the order in which they were pressed.
    before = before.then(changesSaid, changesSaid);
    try {
      await before;
      const answer = await say("press", press);
      forget(press);
      return answer;
    } catch (error) {
      // Without a connection it waits for the next page.
      if (trame.client.isConnected()) forget(press);
      return undefined;
    }
  }

  trame.trigger = (name, values = [], named = {}) => {
    const press = [`${Date.now()}-${Math.random()}`, name, values, named];
    unanswered.push(press);
    sessionStorage.setItem(kept(), JSON.stringify(unanswered));
    return pressed(press);
  };

  [...unanswered].forEach(pressed);

  let asked = "0";

  function showAnswer() {
    const answer = document.querySelector(".se-answer");
    const now = answer ? answer.dataset.asked : "0";
    if (now === asked) return;
    asked = now;
    const panel = document.querySelector(".se-panel");
    if (!answer || !panel) return;
    const top = answer.getBoundingClientRect().top;
    const head = document.querySelector(".se-probe");
    if (top > 0.5 * window.innerHeight || top < 40) panel.scrollTo({ top: head.offsetTop - 40 });
  }

  new MutationObserver(() => {
    showAnswer();
    const lost = document.querySelector(".se-lost");
    if (lost && !lost.dataset.watched) {
      lost.dataset.watched = "yes";
      setTimeout(comeBack, RETRY_MS);
    }
  }).observe(document.body, {
    attributeFilter: ["data-asked"],
    childList: true,
    subtree: true,
  });

  window.addEventListener("keydown", (event) => {
    const writes = /^(input|textarea|select)$/i.test(event.target.tagName) &&
      !/^(checkbox|range)$/.test(event.target.type);
    if (writes || event.altKey || event.metaKey || !window.trame) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey && key !== "z") return;
    if (event.ctrlKey) event.preventDefault();
    window.trame.trigger("key", [event.ctrlKey ? `ctrl+${key}` : key]);
  });

  const hasFiles = (event) => event.dataTransfer && event.dataTransfer.types.includes("Files");
  const drop = (on) => document.body.classList.toggle("se-dropping", on);

  /* All files of what was dropped; of folders those in them, at any depth. */
  async function filesIn(dropped) {
    const entries = [...dropped.items].map((item) => item.webkitGetAsEntry?.());
    // Files that a script made have no entry.
    if (!entries.some((entry) => entry)) return [...dropped.files];
    const found = [];
    while (entries.length) {
      const entry = entries.shift();
      if (entry?.isFile) {
        found.push(await new Promise((done, failed) => entry.file(done, failed)));
      } else if (entry?.isDirectory) {
        const reader = entry.createReader();
        // A reader gives a hundred entries at once, and none at the end.
        for (let some = [null]; some.length; entries.push(...some)) {
          some = await new Promise((done, failed) => reader.readEntries(done, failed));
        }
      }
    }
    return found;
  }

  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop(true);
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop(false);
  });
  window.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop(false);
    const form = new FormData();
    for (const file of await filesIn(event.dataTransfer)) form.append("file", file, file.name);
    // What is wrong with them the viewer says in the panel.
    await fetch("/upload", { method: "POST", body: form });
  });
})();
