// Light, dark or the system's choice. No module: it runs before anything is shown, so that nothing flashes.
(() => {
  const NAMES = ["system", "light", "dark"];
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
      button.textContent = `Theme: ${chosen}`;
    };
    button.addEventListener("click", () => {
      chosen = NAMES[(NAMES.indexOf(chosen) + 1) % NAMES.length];
      keep(chosen);
      show();
    });
    show();
  });
})();
