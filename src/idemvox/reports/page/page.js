"use strict";
(() => {
  const all = (within, what) => [...within.querySelectorAll(what)];

  // one player at a time
  document.addEventListener("play", (event) => {
    for (const audio of all(document, "audio")) if (audio !== event.target) audio.pause();
  }, true);

  // a page on paper shows what readers may have closed, but not the long tables
  addEventListener("beforeprint", () => {
    for (const part of all(document, "details")) if (!part.querySelector("table")) part.open = true;
  });

  // points of a picture say what they are, and can be played; keys go from one to the next
  for (const figure of all(document, "figure.voices")) {
    const picture = figure.querySelector("svg"), tip = figure.querySelector(".tip");
    const dots = all(picture, ".dot"), size = picture.viewBox.baseVal.width;
    let current = 0;

    const place = (dot) => dot.transform.baseVal[0].matrix;

    const show = (at) => {
      const { speaker, recording } = dots[at].dataset, { e, f } = place(dots[at]);
      dots[current].tabIndex = -1;
      dots[at].tabIndex = 0;
      current = at;
      picture.classList.add("chosen");
      dots.forEach((dot, n) => {
        dot.classList.toggle("at", n === at);
        dot.classList.toggle("kin", dot.dataset.speaker === speaker);
        dot.classList.toggle("near", recording !== "-1" && dot.dataset.recording === recording);
        dot.setAttribute("aria-selected", n === at);
      });
      tip.textContent = dots[at].getAttribute("aria-label");
      tip.hidden = false;
      const scale = picture.clientWidth / size;
      tip.style.left = `${Math.max(0, Math.min(e * scale - tip.offsetWidth / 2, picture.clientWidth - tip.offsetWidth))}px`;
      tip.style.top = `${f * scale + (f < size / 2 ? 14 : -tip.offsetHeight - 14)}px`;
    };

    const hide = () => {
      picture.classList.remove("chosen");
      tip.hidden = true;
    };

    const play = (at) => {
      const audio = document.querySelector(`#${dots[at].dataset.clip ?? "none"} audio`);
      if (!audio) return;
      audio.currentTime = 0;
      audio.play();
    };

    const under = (event) => {
      const box = picture.getBoundingClientRect(), scale = box.width / size;
      const far = (dot) => Math.hypot(place(dot).e * scale + box.left - event.clientX,
                                      place(dot).f * scale + box.top - event.clientY);
      const distances = dots.map(far), least = Math.min(...distances);
      return least < 24 ? distances.indexOf(least) : -1;
    };

    // from speaker to speaker: the first point of the next, or of the one before
    const leap = (at, step) => {
      const own = dots[at].dataset.speaker;
      let next = at;
      while (dots[next]?.dataset.speaker === own) next += step;
      if (!dots[next]) return at;
      return dots.findIndex((dot) => dot.dataset.speaker === dots[next].dataset.speaker);
    };

    addEventListener("resize", hide);
    picture.setAttribute("role", "listbox");
    dots.forEach((dot, n) => {
      const title = dot.querySelector("title");
      dot.setAttribute("aria-label", title.textContent);
      title.remove();
      dot.setAttribute("role", "option");
      dot.setAttribute("aria-selected", false);
      dot.tabIndex = n ? -1 : 0;
      dot.addEventListener("focus", () => show(n));
      dot.addEventListener("blur", hide);
    });
    picture.addEventListener("pointermove", (event) => {
      const at = under(event);
      if (at >= 0) show(at);
      else if (!picture.contains(document.activeElement)) hide();
    });
    picture.addEventListener("pointerleave", () => {
      if (!picture.contains(document.activeElement)) hide();
    });
    picture.addEventListener("click", (event) => {
      const at = under(event);
      if (at < 0) return;
      dots[at].focus({ preventScroll: true });
      show(at);
      play(at);
    });
    picture.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const moves = {
        ArrowRight: Math.min(current + 1, dots.length - 1), ArrowLeft: Math.max(current - 1, 0),
        ArrowDown: leap(current, 1), ArrowUp: leap(current, -1), Home: 0, End: dots.length - 1,
      };
      if (event.key in moves) dots[moves[event.key]].focus();
      else if (event.key === "Enter" || event.key === " ") play(current);
      else if (event.key === "Escape") hide();
      else return;
      event.preventDefault();
    });
  }
})();
