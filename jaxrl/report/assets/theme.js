"use strict";
// Light, dark, or as the system has it; kept for the next visit where the browser allows it.
(() => {
  const THEMES = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  let theme = "system";
  try {
    theme = localStorage.getItem("jaxrl-theme") || theme;
  } catch {
    /* a file opened from disk may have no storage */
  }

  function apply() {
    if (theme === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    document.dispatchEvent(new Event("themechange"));
  }

  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem("jaxrl-theme", theme);
    } catch {
      /* as above */
    }
    apply();
  });
  apply();
})();
