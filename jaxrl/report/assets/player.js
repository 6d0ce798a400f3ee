"use strict";
// A page that is one playback.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  document.getElementById("title").textContent = data.title;
  Playback.create(document.getElementById("player")).open(data.media[0]);
})();
