// Collects what the hand does in a slice view and sends it, finished, to the server.
// The line being drawn is shown here, at once, whatever the server is doing.
(() => {
  const MOVED = 5; // px: below this a press is a click
  const STEP = 2.5; // px between the points of a stroke
  const HOVER_MS = 120; // how often the server hears where the hand is
  const SLOW = 45; // px per HOVER_MS: a hand that moves faster is on its way to somewhere else
  const GESTURES = {
    navigate: "click", positive: "click", negative: "click", box: "box",
    scribble: "line", lasso: "area", paint: "line", erase: "line",
  };
  const PROMPTS = new Set(["positive", "negative", "box", "scribble", "lasso"]);
  let current = null; // the gesture under way
  let hoverTimer = 0;
  let latest = { x: 0, y: 0, cell: null, where: [0, 0] }; // where the hand is, and where it was last reported
  let heard = latest;
  const waiting = new Set(); // gestures whose answer has not been seen yet

  const state = (name) => window.trame?.state?.get(name);
  const send = (name, ...args) => window.trame?.trigger(name, args);
  const cellOf = (event) => event.target.closest?.(".f3d-view[data-slice]");

  function place(cell, event) {
    const box = cell.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function ink(cell) { return cell.querySelector(".f3d-ink"); }

  function shape(cell, name) {
    const svg = ink(cell);
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    svg.append(element);
    return element;
  }

  function brushRadius(cell) {
    const mmAcross = state("mm_across")?.[cell.dataset.slice];
    return mmAcross ? (state("brush_mm") / 2 / mmAcross) * cell.clientWidth : 6;
  }

  function draw(gesture) {
    const { cell, points, kind, element } = gesture;
    const [w, h] = [cell.clientWidth, cell.clientHeight];
    const pixels = points.map(([x, y]) => [x * w, y * h]);
    if (kind === "box") {
      const [a, b] = [pixels[0], pixels[pixels.length - 1]];
      element.setAttribute("x", Math.min(a[0], b[0]));
      element.setAttribute("y", Math.min(a[1], b[1]));
      element.setAttribute("width", Math.abs(a[0] - b[0]));
      element.setAttribute("height", Math.abs(a[1] - b[1]));
    } else {
      element.setAttribute("points", pixels.map((p) => p.join(",")).join(" "));
    }
  }

  function begin(event) {
    const cell = cellOf(event);
    if (!cell || event.button !== 0 || event.shiftKey || event.target.closest(".f3d-control")) return;
    const tool = state("tool");
    const kind = GESTURES[tool];
    if (!kind) return;
    // A view takes no focus: a button pressed before would keep it, and Enter with it.
    document.activeElement?.blur();
    const start = place(cell, event);
    current = { cell, tool, kind, points: [start], from: [event.clientX, event.clientY], moved: false,
                ctrl: event.ctrlKey || event.metaKey, view: cell.dataset.slice };
    if (tool === "navigate") return; // the view itself handles the drag
    event.preventDefault();
    event.stopPropagation();
    cell.setPointerCapture?.(event.pointerId);
    clearTimeout(hoverTimer);
    hoverTimer = 0;
    if (PROMPTS.has(tool)) send("hover", current.view, ...start);
    if (kind === "click") return;
    current.element = shape(cell, { box: "rect", line: "polyline", area: "polygon" }[kind]);
    current.element.setAttribute("class", `ink-${tool}${current.ctrl || tool === "erase" ? " ink-away" : ""}`);
    if (tool === "paint" || tool === "erase") {
      current.element.style.strokeWidth = 2 * brushRadius(cell);
    }
    draw(current);
  }

  function move(event) {
    const cell = cellOf(event);
    cursor(cell, event);
    if (!current) { if (cell) approach(cell, event); return; }
    if (Math.hypot(event.clientX - current.from[0], event.clientY - current.from[1]) > MOVED) current.moved = true;
    if (current.tool === "navigate") return;
    event.preventDefault();
    event.stopPropagation();
    if (current.kind === "click") return;
    for (const step of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
      const next = place(current.cell, step);
      const last = current.points[current.points.length - 1];
      const distance = Math.hypot((next[0] - last[0]) * current.cell.clientWidth,
                                  (next[1] - last[1]) * current.cell.clientHeight);
      if (current.kind === "box") current.points[1] = next;
      else if (distance >= STEP) current.points.push(next);
    }
    draw(current);
  }

  function end(event) {
    if (!current) return;
    const done = current;
    current = null;
    if (done.tool !== "navigate") { event.preventDefault(); event.stopPropagation(); }
    done.element?.remove();
    if (event.type === "pointercancel") return;
    if (done.kind === "click" && done.moved) return;
    if (done.kind === "box" && !done.moved) return;
    if (done.kind === "area" && done.points.length < 3) return;
    if (done.tool !== "navigate") mark(done);
    send("gesture", { tool: done.tool, view: done.view, points: done.points, ctrl: done.ctrl });
  }

  // A quiet mark where the answer is still under way; the next picture of the view takes it away.
  function mark(done) {
    const { cell, points } = done;
    const dot = shape(cell, "circle");
    const [x, y] = points[points.length - 1];
    dot.setAttribute("cx", x * cell.clientWidth);
    dot.setAttribute("cy", y * cell.clientHeight);
    dot.setAttribute("r", 7);
    dot.setAttribute("class", "ink-wait");
    waiting.add({ cell, dot, since: performance.now(), sequence: state("answers"), tool: done.tool });
  }

  window.f3dMark = mark;

  // A picture of a view has arrived: if it is the first after the answer, the answer is visible now.
  document.addEventListener("load", (event) => {
    if (event.target.tagName !== "IMG" || !waiting.size) return;
    for (const entry of waiting) {
      if (state("answers") === entry.sequence || !entry.cell.contains(event.target)) continue;
      waiting.delete(entry);
      entry.dot.remove();
      const ms = Math.round(performance.now() - entry.since);
      if (PROMPTS.has(entry.tool)) window.trame.state.set("click_ms", ms);
      window.dispatchEvent(new CustomEvent("f3d-visible", { detail: { ms, tool: entry.tool } }));
    }
  }, true);
  setInterval(() => {
    for (const entry of waiting) {
      if (state("answers") === entry.sequence) continue;
      // Answered, but no picture came: a refused or cancelled prompt changes none.
      entry.answered ??= performance.now();
      if (performance.now() - entry.answered > 2500) { entry.dot.remove(); waiting.delete(entry); }
    }
  }, 500);

  // While the hand moves slowly, or stops, the server prepares the place under it.
  function approach(cell, event) {
    latest = { x: event.clientX, y: event.clientY, cell, where: place(cell, event) };
    if (!hoverTimer && PROMPTS.has(state("tool"))) hoverTimer = setTimeout(report, HOVER_MS);
  }

  function report() {
    hoverTimer = 0;
    const far = heard.cell === latest.cell ? Math.hypot(latest.x - heard.x, latest.y - heard.y) : Infinity;
    heard = latest;
    if (current || !PROMPTS.has(state("tool"))) return;
    if (far < SLOW) send("hover", latest.cell.dataset.slice, ...latest.where);
    if (far > 0) hoverTimer = setTimeout(report, HOVER_MS); // once more, for the place where it stops
  }

  function cursor(cell, event) {
    for (const old of document.querySelectorAll(".ink-brush")) if (!cell || old.ownerSVGElement !== ink(cell)) old.remove();
    const tool = state("tool");
    if (!cell || (tool !== "paint" && tool !== "erase")) { document.querySelector(".ink-brush")?.remove(); return; }
    const ring = ink(cell).querySelector(".ink-brush") ?? shape(cell, "circle");
    const box = cell.getBoundingClientRect();
    ring.setAttribute("class", "ink-brush");
    ring.setAttribute("cx", event.clientX - box.left);
    ring.setAttribute("cy", event.clientY - box.top);
    ring.setAttribute("r", brushRadius(cell));
  }

  const options = { capture: true, passive: false };
  window.addEventListener("pointerdown", begin, options);
  window.addEventListener("pointermove", move, options);
  window.addEventListener("pointerup", end, options);
  window.addEventListener("pointercancel", end, options);
})();
