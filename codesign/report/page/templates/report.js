"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;

  const theme = () => chosen ?? (system.matches ? "dark" : "light");
  function paint() {
    root.dataset.theme = theme();
    button.setAttribute("aria-pressed", String(theme() === "dark"));
  }
  button.addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    paint();
  });
  system.addEventListener("change", paint);

  // A link to a plan, or to a section of one, shows that plan alone.
  function show() {
    const found = /^#(?:plan-|s)(\d+)/.exec(location.hash);
    if (!found) return;
    const wanted = document.getElementById(`plan-${found[1]}`);
    if (!wanted || !wanted.hidden) return;
    for (const plan of document.querySelectorAll("[data-plan]")) plan.hidden = plan !== wanted;
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
    wanted.focus({ preventScroll: true });
  }
  window.addEventListener("hashchange", show);

  paint();
  show();
})();
