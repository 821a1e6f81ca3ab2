"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const palette = ["blue", "orange", "green", "violet", "red", "teal", "brown", "grey"];
  let chosen = null;
  let ready = false;

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  // Names of the palette become colours of the theme in force; "-soft" is the same, see-through.
  function paint(value, key) {
    if (Array.isArray(value)) return value.map((item) => paint(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, item]) => [k, paint(item, k)]));
    }
    if (key !== "color" || typeof value !== "string") return value;
    const soft = value.endsWith("-soft");
    const name = soft ? value.slice(0, -5) : value;
    if (!palette.includes(name)) return value;
    return colour(name) + (soft ? "73" : "");
  }

  function draw(place) {
    const spec = specs[Number(place.dataset.figure)];
    const layout = paint(spec.layout, "");
    const axis = { gridcolor: colour("rule"), zerolinecolor: colour("rule"), linecolor: colour("rule") };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) Object.assign(layout[key], axis);
    }
    Object.assign(layout, {
      paper_bgcolor: colour("paper"),
      plot_bgcolor: colour("paper"),
      font: { color: colour("ink"), size: 13, family: "system-ui, 'DejaVu Sans', sans-serif" },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("rule"), font: { color: colour("ink") } },
      height: place.clientHeight,
    });
    const drawn = place.classList.contains("js-plotly-plot");
    Plotly.react(place, paint(spec.data, ""), layout, { displayModeBar: false, responsive: true });
    if (!drawn) {
      place.on("plotly_click", (event) => {
        const plan = event.points[0].customdata;
        if (typeof plan === "number") location.hash = `#plan-${plan}`;
      });
    }
  }

  const pending = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      pending.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px" });

  // Figures near the view are drawn at once, the others when they come near it, and all of them for paper.
  function drawVisible(all = false) {
    if (!ready) return;
    for (const place of document.querySelectorAll("[data-figure]")) {
      if (place.closest("[hidden]")) continue;
      if (all || place.classList.contains("js-plotly-plot")) draw(place);
      else pending.observe(place);
    }
    root.dataset.ready = "yes";
  }

  function setTheme(name, all = false) {
    root.dataset.theme = name;
    button.setAttribute("aria-pressed", String(name === "dark"));
    drawVisible(all);
  }
  const theme = () => chosen ?? (system.matches ? "dark" : "light");
  button.addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    setTheme(chosen);
  });
  system.addEventListener("change", () => setTheme(theme()));
  // Paper is white.
  window.addEventListener("beforeprint", () => setTheme("light", true));
  window.addEventListener("afterprint", () => setTheme(theme()));

  function show() {
    const found = /^#(?:plan-|s)(\d+)/.exec(location.hash);
    if (!found) return;
    const wanted = document.getElementById(`plan-${found[1]}`);
    if (!wanted || !wanted.hidden) return;
    for (const plan of document.querySelectorAll("[data-plan]")) plan.hidden = plan !== wanted;
    drawVisible();
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
    wanted.focus({ preventScroll: true });
  }
  window.addEventListener("hashchange", show);

  async function load() {
    const text = atob(document.getElementById("plotly").textContent);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    ready = true;
    drawVisible();
  }

  setTheme(theme());
  show();
  load();
})();
