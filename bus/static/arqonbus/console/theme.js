// Before anything is painted: the theme that the visitor chose, else the one of their system.
(() => {
  const chosen = localStorage.getItem("arqonbus.theme");
  const dark = chosen ? chosen === "dark" : !matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
