// Before anything is painted: the theme that the visitor chose, else the one of their system.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("arqonbus.theme");
  } catch {
    // The browser blocks site data: the theme is the system's.
  }
  const dark = chosen ? chosen === "dark" : !matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
