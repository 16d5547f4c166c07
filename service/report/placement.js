"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const grid = document.getElementById("grid");
  const tip = document.getElementById("tip");
  const found = document.getElementById("found");
  const cellsOf = data.jobs.map(() => []);
  const cells = [...grid.querySelectorAll(".n i")];
  const jobsOf = (cell) => (cell.dataset.j ? cell.dataset.j.split(",").map(Number) : []);
  const nodeOf = (cell) => cell.closest(".n");
  cells.forEach((cell) => jobsOf(cell).forEach((job) => cellsOf[job].push(cell)));

  const line = (text, strong) => {
    const made = document.createElement(strong ? "strong" : "span");
    made.textContent = text;
    return made;
  };
  const tellJob = ([id, tenant, workers, gpus]) => {
    const size = gpus === 0 ? "no GPU" : gpus < 1 ? `${gpus} of a GPU` : `${gpus} GPU${gpus > 1 ? "s" : ""}`;
    const owner = data.tenants.length > 1 ? `, ${data.tenants[tenant]}` : "";
    return `${id} (${workers > 1 ? `${workers} workers × ` : ""}${size}${owner})`;
  };
  const tell = (node, cell) => {
    const [id, model, cpu, cpuHas, memory, memoryHas, others, path, state] = data.nodes[Number(node.dataset.n)];
    const lines = [line(`${id} · ${model}${state === "ready" ? "" : ` · ${state}`}`, true)];
    if (path) lines.push(line(path));
    if (cell) {
      const gpu = [...node.querySelectorAll("i")].indexOf(cell);
      const jobs = jobsOf(cell);
      const free = cell.classList.contains("u") ? "free, but no job fits what is left of the node" : "free";
      lines.push(line(`GPU ${gpu}: ${jobs.length ? jobs.map((job) => tellJob(data.jobs[job])).join(" + ") : free}`));
    }
    lines.push(line(`CPU ${cpu} of ${cpuHas} cores · memory ${memory} of ${memoryHas} GiB`));
    if (others) lines.push(line(`${others} worker${others > 1 ? "s" : ""} without a GPU`));
    tip.replaceChildren(...lines);
  };

  let lit = [];
  const light = (chosen) => {
    lit.forEach((cell) => cell.classList.remove("lit"));
    lit = chosen;
    lit.forEach((cell) => cell.classList.add("lit"));
  };
  grid.addEventListener("pointermove", (event) => {
    const node = event.target.closest(".n");
    tip.hidden = !node;
    if (!node) return light([]);
    const cell = event.target.closest("i");
    tell(node, cell);
    light(cell ? jobsOf(cell).flatMap((job) => cellsOf[job]) : []);
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18}px`;
  });
  grid.addEventListener("pointerleave", () => { tip.hidden = true; light([]); });

  document.getElementById("find").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    grid.classList.toggle("finding", wanted !== "");
    cells.forEach((cell) => cell.classList.remove("hit"));
    if (!wanted) { found.textContent = ""; return; }
    const jobs = data.jobs.map((job, index) => ({ job, index }))
      .filter(({ job }) => job[0].toLowerCase().includes(wanted) || data.tenants[job[1]].toLowerCase() === wanted);
    const hits = new Set(jobs.flatMap(({ index }) => cellsOf[index]));
    let nodes = 0;
    grid.querySelectorAll(".n").forEach((node) => {
      if (data.nodes[Number(node.dataset.n)][0].toLowerCase().includes(wanted)) {
        nodes += 1;
        node.querySelectorAll("i").forEach((cell) => hits.add(cell));
      }
    });
    hits.forEach((cell) => cell.classList.add("hit"));
    const where = [...new Set(jobs.slice(0, 1).flatMap(({ index }) => cellsOf[index]).map((cell) => data.nodes[Number(nodeOf(cell).dataset.n)][0]))];
    const one = jobs.length === 1 && where.length ? `: ${tellJob(jobs[0].job)} on ${where.slice(0, 4).join(", ")}${where.length > 4 ? ` and ${where.length - 4} more nodes` : ""}` : "";
    found.textContent = `${jobs.length} jobs with GPUs, ${nodes} nodes, ${hits.size} GPUs${one}`;
  });
})();
