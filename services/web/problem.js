// What went wrong, in words, and how to go on.

import { find, show } from "./dom.js";

let counting = null;

/** Show an error; with `again` there is a button, which waits where the server says for how long. */
export function showProblem(error, again = null) {
  hideProblem();
  find("problem-said").textContent = error.message;
  show(find("problem"));
  const button = find("again");
  show(button, again !== null);
  button.onclick = () => {
    hideProblem();
    again();
  };
  countDown(error.retryAfter ?? 0);
}

export function hideProblem() {
  clearInterval(counting);
  show(find("problem"), false);
}

function countDown(seconds) {
  const button = find("again");
  let left = seconds;
  const tick = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left <= 0) clearInterval(counting);
    left -= 1;
  };
  counting = setInterval(tick, 1000);
  tick();
}
