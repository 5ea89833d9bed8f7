// Light, dark or the system's choice. No module: it runs before anything is shown, so that nothing flashes.
(() => {
  const NAMES = ["system", "light", "dark"];
  const LABELS = { system: "System", light: "Light", dark: "Dark" };
  const KEY = "latentworks.theme";
  const root = document.documentElement;

  function read() {
    try {
      const kept = localStorage.getItem(KEY);
      return NAMES.includes(kept) ? kept : "system";
    } catch {
      return "system"; // storage is switched off
    }
  }

  function keep(name) {
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // it holds for this visit
    }
  }

  let chosen = read();
  root.dataset.theme = chosen;
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      root.dataset.theme = chosen;
      button.textContent = LABELS[chosen];
      button.setAttribute("aria-label", `${LABELS[chosen]}: theme`);
    };
    button.addEventListener("click", () => {
      chosen = NAMES[(NAMES.indexOf(chosen) + 1) % NAMES.length];
      keep(chosen);
      show();
    });
    show();
  });
})();
