// Keys, uploads and the connection: what the page does outside the views.
(() => {
  const state = (name) => window.trame?.state?.get(name);
  const set = (name, value) => window.trame?.state?.set(name, value);
  const send = (name, ...args) => window.trame?.trigger(name, args);

  // Keys. VTK's own single-key commands (exit, wireframe, ...) must never see them.
  const typing = (target) => target.closest?.("input:not([type=range]), textarea, [contenteditable=true]");
  function keyName(event) {
    const key = event.key.toLowerCase();
    const parts = [];
    if (event.ctrlKey || event.metaKey) parts.push("ctrl");
    if (event.shiftKey && (key.length > 1 || key !== key.toUpperCase())) parts.push("shift");
    if (event.altKey) parts.push("alt");
    return [...parts, key].join("+");
  }
  window.addEventListener("keydown", (event) => {
    if (typing(event.target)) return;
    if (event.key === "Enter" && event.target.closest?.("button, select, [role=option]")) return;
    const command = state("shortcuts")?.[keyName(event)];
    if (event.target.closest?.(".f3d-view")) event.stopPropagation();
    // An open menu or dialog has the keys to itself, Escape above all.
    if (!command || document.querySelector(".v-overlay--active:not(.v-tooltip)") && (command !== "action:help" || state("question"))) return;
    event.preventDefault();
    event.stopPropagation();
    const [kind, name] = command.split(":");
    if (kind === "tool") { if (state("scan_name")) set("tool", name); send("tool", name); }
    else if (name === "help") set("help_open", !state("help_open"));
    else if (!event.repeat || name.startsWith("slice_") || name.startsWith("brush_")) send("action", name);
  }, true);
  for (const type of ["keypress", "keyup"]) {
    window.addEventListener(type, (event) => {
      if (event.target.closest?.(".f3d-view")) event.stopPropagation();
    }, true);
  }

  // Uploads: file by file, each streamed; the server checks size and content.
  async function filesOf(entry, path = "") {
    if (entry.isFile) {
      const file = await new Promise((ok, fail) => entry.file(ok, fail));
      return [{ file, path: path + file.name }];
    }
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((ok, fail) => reader.readEntries(ok, fail));
      if (!some.length) break;
      for (const inner of some) found.push(...await filesOf(inner, `${path}${entry.name}/`));
    }
    return found;
  }

  function put(url, file, progress) {
    return new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open("POST", url);
      request.upload.onprogress = (event) => progress(event.loaded);
      request.onload = () => {
        let answer = {};
        try { answer = JSON.parse(request.responseText); } catch { answer = { error: request.responseText }; }
        request.status < 300 ? done(answer) : fail(new Error(answer.error || `The server answered ${request.status}.`));
      };
      request.onerror = () => fail(new Error("The connection broke during the upload; try again."));
      request.send(file);
    });
  }

  async function upload(list) {
    if (!list.length || state("uploading")) return;
    const total = list.reduce((sum, { file }) => sum + file.size, 0);
    const limit = state("max_upload");
    if (total > limit) {
      return send("complain", `The upload has ${Math.ceil(total / 1048576)} MB; this server takes up to ${Math.floor(limit / 1048576)} MB.`);
    }
    set("uploading", true);
    set("upload_progress", 0);
    try {
      const { batch } = await put("f3d/upload/begin", null, () => {});
      let before = 0;
      for (const { file, path } of list) {
        await put(`f3d/upload/file?batch=${batch}&name=${encodeURIComponent(path)}`, file, (loaded) => {
          set("upload_progress", Math.round((100 * (before + loaded)) / Math.max(total, 1)));
        });
        before += file.size;
      }
      set("uploading", false); // what follows may be a question
      await put(`f3d/upload/open?batch=${batch}`, null, () => {});
    } catch (error) {
      send("complain", error.message);
    } finally {
      set("uploading", false);
    }
  }

  // The server keeps the state of the page before: its upload ended with it.
  const fresh = setInterval(() => {
    if (state("uploading") === undefined) return;
    clearInterval(fresh);
    set("uploading", false);
  }, 100);

  const plain = (files) => [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  window.f3dPick = (folder) => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.webkitdirectory = Boolean(folder);
    input.onchange = () => upload(plain(input.files));
    input.click();
  };
  let depth = 0;
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  window.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth += 1; set("dropping", true); } });
  window.addEventListener("dragleave", (event) => { if (carriesFiles(event) && --depth <= 0) { depth = 0; set("dropping", false); } });
  window.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  window.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    set("dropping", false);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plainFiles = plain(event.dataTransfer.files);
    if (entries.some((entry) => entry.isDirectory)) {
      upload((await Promise.all(entries.map((entry) => filesOf(entry)))).flat());
    } else {
      upload(plainFiles);
    }
  });

  // A link with `download` does not count as leaving the page; leaving it would close the connection.
  window.f3dDownload = (kind) => {
    const link = document.createElement("a");
    link.href = `f3d/download/${kind}`;
    link.download = "";
    link.click();
  };

  // When the connection breaks: come back by itself if the session still runs, else offer to go on from the autosave.
  const banner = document.createElement("div");
  banner.className = "f3d-gone-banner";
  banner.setAttribute("role", "alert");
  banner.innerHTML = "<span></span><button>Go on</button>";
  banner.querySelector("button").onclick = () => location.assign("/");
  document.body.append(banner);
  function tell(text, button) {
    banner.querySelector("span").textContent = text;
    banner.querySelector("button").hidden = !button;
    document.documentElement.classList.toggle("f3d-gone", Boolean(text));
  }
  async function watch() {
    const broken = Boolean(document.querySelector(".trame__message"));
    try {
      const answer = await fetch("/f3d/ready", { cache: "no-store" });
      const { ready } = await answer.json();
      if (ready && broken) location.reload();
      else if (ready) tell("");
      else tell("The session has ended. Your work can go on from the last save.", true);
    } catch {
      tell("The server does not answer. Trying again…", false);
    }
  }
  setInterval(watch, 2500);
})();
