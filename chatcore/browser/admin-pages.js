// A list that grows page by page: what is asked for, what is said of it, the button for more, and which call counts.
import { count } from "./admin-figures.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

/** Date and time by the viewer's clock, to the second. @param {number} moment */
export const timeNode = (moment) => make("time", { datetime: new Date(moment).toISOString() },
  new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" }).format(moment));

/** So many of something. @param {number} number @param {string} one @param {string} several */
export const some = (number, one, several) => `${count(number)} ${number === 1 ? one : several}`;

/** @type {A.CreatePages} */
export const createPages = ({ ask, item, tell, label, more: moreLabel, isUpward = false }) => {
  const status = make("p", { class: "status", role: "status", tabindex: "-1" });
  const all = make("ol", { class: "items", "aria-label": label });
  const more = make("button", { type: "button", class: "more", hidden: true }, moreLabel);
  let call = new AbortController();
  let before = "";
  let shown = 0;
  /** Gives the request for the page behind a mark. @type {Parameters<A.Pages<any>["load"]>[0]} */
  let request;

  /** @param {string} text */
  const say = (text, isFault = false) => {
    status.textContent = text;
    status.classList.toggle("fault", isFault);
  };
  const clear = () => {
    call.abort();
    all.replaceChildren();
    all.setAttribute("aria-busy", "false");
    before = "";
    shown = 0;
    more.hidden = true;
    more.disabled = false;
    say("");
  };
  /** Ask for the page behind a mark. A later call ends this one. @param {string} mark @param {string} prefix */
  const fetchPage = async (mark, prefix) => {
    call.abort();
    call = new AbortController();
    const { signal } = call;
    all.setAttribute("aria-busy", "true");
    more.disabled = true;
    if (!mark) say(`${prefix} Loading…`.trim());
    try {
      const answer = await ask(request(mark), signal);
      if (signal.aborted) return [];
      if ("said" in answer) {
        if (!mark) more.hidden = true;
        if (answer.why !== "token") say(`${prefix} ${answer.said}`.trim(), true);
        return [];
      }
      const { found } = answer;
      const nodes = found.all.map(item);
      if (!mark) all.replaceChildren(...nodes);
      else if (isUpward) all.prepend(...nodes);
      else all.append(...nodes);
      shown = (mark ? shown : 0) + nodes.length;
      before = found.before;
      more.hidden = !before;
      say(`${prefix} ${tell(shown, Boolean(before), found.truncated)}`.trim());
      return nodes;
    } catch {
      return []; // another call has taken its place, or the view was left
    } finally {
      if (!signal.aborted) {
        all.setAttribute("aria-busy", "false");
        more.disabled = false;
      }
    }
  };
  more.addEventListener("click", async () => {
    const [first] = await fetchPage(before, "");
    // What came is read from its beginning; where nothing came, the button is still there.
    if (!first) return more.hidden ? status.focus() : more.focus();
    return (first.querySelector("a") ?? first).focus();
  });
  return {
    status,
    list: all,
    more,
    count: () => shown,
    clear,
    leave() {
      call.abort();
      all.setAttribute("aria-busy", "false");
      more.disabled = false;
    },
    async load(give, prefix = "") {
      clear();
      request = give;
      await fetchPage("", prefix);
    },
  };
};
