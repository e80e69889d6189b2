// The newest box of the segment: a rectangle with handles in every slice that cuts it, while the box tool is chosen.
// The server says where the box is and how each view sees it (`BoxHandles`); what the hand pulls is shown here at once.
(() => {
  const TAGS = ["Red", "Green", "Yellow"];
  const SIDES = [[0, 0], [1, 0], [0, 1], [1, 1], [0, null], [1, null], [null, 0], [null, 1]]; // [x end, y end]
  const CURSORS = ["nwse", "nesw", "nesw", "nwse", "ew", "ew", "ns", "ns"];
  const ROOM = 40; // px: a side shorter than this has no handle in its middle
  const state = (name) => window.trame?.state?.get(name);
  let box = null; // as shown: the server's, or as pulled
  let pull = null; // the handle in the hand

  const layer = (tag) => document.querySelector(`.f3d-view[data-slice=${tag}] .f3d-boxes`);

  function add(parent, name, className) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    element.setAttribute("class", className);
    parent.append(element);
    return element;
  }

  function build(svg) {
    const parts = { sides: [], grips: [], zones: [] };
    for (let n = 0; n < 4; n += 1) parts.sides.push(add(svg, "line", "side"));
    SIDES.forEach((ends, n) => {
      const corner = n < 4;
      const zone = add(svg, corner ? "circle" : "line", "f3d-handle");
      zone.style.setProperty("cursor", `${CURSORS[n]}-resize`, "important");
      zone.dataset.n = n;
      parts.zones.push(zone);
      const grip = add(svg, "circle", "grip");
      grip.setAttribute("r", corner ? 4 : 3);
      parts.grips.push(grip);
    });
    parts.zones.slice(0, 4).forEach((corner) => svg.append(corner)); // corners win over the sides that meet there
    return parts;
  }

  const percent = (fraction) => `${100 * fraction}%`;
  function line(element, x1, y1, x2, y2) {
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) element.setAttribute(name, percent(value));
  }

  // The box's edges in a view, as fractions from left and top: [[left, right], [top, bottom]] and which end each is.
  function seen(view) {
    return [0, 1].map((n) => {
      const a = view.axes[n];
      const ends = [box.lower[a], box.upper[a]].map((edge) => view.origin[n] + view.scale[n] * edge);
      return ends[0] <= ends[1] ? { from: ends[0], to: ends[1], first: "lower" } : { from: ends[1], to: ends[0], first: "upper" };
    });
  }

  function draw() {
    const views = state("box_views") ?? {};
    for (const tag of TAGS) {
      const svg = layer(tag);
      if (!svg) continue;
      const view = views[tag];
      const across = view?.across;
      const shown = box && view && state("tool") === "box" && view.at >= box.lower[across] - 0.01 && view.at <= box.upper[across] + 0.01;
      svg.style.display = shown ? "" : "none";
      if (!shown) continue;
      svg.parts ??= build(svg);
      const [x, y] = seen(view);
      const middle = [(x.from + x.to) / 2, (y.from + y.to) / 2];
      const lines = [[x.from, y.from, x.from, y.to], [x.to, y.from, x.to, y.to], [x.from, y.from, x.to, y.from], [x.from, y.to, x.to, y.to]];
      lines.forEach((ends, n) => {
        line(svg.parts.sides[n], ...ends);
        line(svg.parts.zones[4 + n], ...ends);
        svg.parts.sides[n].classList.toggle("guessed", view.axes[n < 2 ? 0 : 1] === box.guessed);
      });
      // Handles of a small box must not hide it, nor each other.
      const size = [(x.to - x.from) * svg.clientWidth, (y.to - y.from) * svg.clientHeight];
      const radius = Math.max(3, Math.min(9, Math.min(...size) / 4));
      SIDES.forEach(([endX, endY], n) => {
        const crowded = n >= 4 && size[endX === null ? 0 : 1] < ROOM;
        svg.parts.grips[n].style.display = crowded ? "none" : "";
        if (n < 4) svg.parts.zones[n].setAttribute("r", radius);
        const at = [endX === null ? middle[0] : [x.from, x.to][endX], endY === null ? middle[1] : [y.from, y.to][endY]];
        for (const part of n < 4 ? [svg.parts.grips[n], svg.parts.zones[n]] : [svg.parts.grips[n]]) {
          part.setAttribute("cx", percent(at[0]));
          part.setAttribute("cy", percent(at[1]));
        }
      });
    }
  }

  function grab(event) {
    const zone = event.target.closest?.(".f3d-handle");
    if (!zone || event.button !== 0 || event.shiftKey) return;
    document.activeElement?.blur(); // as every gesture does
    event.preventDefault();
    event.stopImmediatePropagation();
    const cell = zone.closest(".f3d-view");
    const view = state("box_views")[cell.dataset.slice];
    const ends = SIDES[zone.dataset.n];
    const faces = seen(view).map((side, n) => ends[n] === null ? null
      : ends[n] === 0 ? side.first : side.first === "lower" ? "upper" : "lower");
    pull = { cell, view, faces, moved: false };
    cell.setPointerCapture?.(event.pointerId);
  }

  function move(event) {
    if (!pull) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const around = pull.cell.getBoundingClientRect();
    const at = [(event.clientX - around.left) / around.width, (event.clientY - around.top) / around.height];
    Object.assign(pull, { moved: true, at });
    box = { ...box, lower: [...box.lower], upper: [...box.upper] };
    pull.faces.forEach((face, n) => {
      if (!face) return;
      const axis = pull.view.axes[n];
      const edge = (at[n] - pull.view.origin[n]) / pull.view.scale[n];
      // At least one voxel stays.
      box[face][axis] = face === "lower" ? Math.min(edge, box.upper[axis] - 1) : Math.max(edge, box.lower[axis] + 1);
      if (axis === box.guessed) box.guessed = -1;
    });
    draw();
  }

  function release(event) {
    if (!pull) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const { cell, moved, at } = pull;
    pull = null;
    if (!moved || event.type === "pointercancel") return reset();
    window.f3dMark({ cell, points: [at], tool: "box" });
    window.trame.trigger("box", [cell.dataset.slice, box.id, box.lower, box.upper]);
  }

  function reset() {
    if (pull) return;
    box = state("box") ?? null;
    draw();
  }

  const options = { capture: true, passive: false };
  window.addEventListener("pointerdown", grab, options);
  window.addEventListener("pointermove", move, options);
  window.addEventListener("pointerup", release, options);
  window.addEventListener("pointercancel", release, options);
  // `answers`: a pull that was refused goes back to where the box is.
  const wait = setInterval(() => {
    if (!window.trame?.state?.watch) return;
    clearInterval(wait);
    window.trame.state.watch(["box"], reset);
    window.trame.state.watch(["answers"], () => setTimeout(reset, 400));
    window.trame.state.watch(["box_views", "tool"], draw);
  }, 100);
})();
