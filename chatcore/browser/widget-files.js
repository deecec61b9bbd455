// Files on their way: those chosen for the next message, and those that went along with one. Loaded with the first.
import { faultOf, quotedName, shownName, sizeText, textOf, typesText } from "./file-limits.js";
import { FILE_STYLES } from "./widget-file-styles.js";
import { adopt, icon, iconButton, make } from "./widget-nodes.js";
import { filled } from "./widget-strings.js";
/** @import { FileNote } from "./types.js" */
/** @import * as W from "./widget.js" */

const PAGE = "M13 3H6v18h12V8l-5-5zM13 3v5h5";
const THUMBNAIL_PX = 72; // twice its size in CSS
const THUMBNAIL_MAX_BYTES = 20_000_000;
const MOST_SENTENCES = 3;

/** @type {W.FileStrings} */
const ENGLISH = {
  files: "Attached files",
  fileAdded: "Added: {names}",
  fileRemoved: "Removed: {name}",
  removeFile: "Remove {name}",
  dropFiles: "Drop files here",
  tooManyFiles: "At most {n} files go along with a message.",
  fileTooLarge: "{name} is larger than {size}.",
  fileOfWrongType: "{name} can't be sent. Allowed: {types}.",
  attachAgainHint: "Please attach again: {names}",
  sendingFiles: "Sending files",
  image: "images",
  audio: "audio",
  video: "videos",
  text: "text",
};

/** What stands for a file: a picture, its name, its size. @type {(file: FileNote, locale: string) => HTMLElement} */
const chip = ({ name, size }, locale) =>
  make("li", { class: "file" }, make("span", { class: "thumb" }, icon(PAGE)),
    make("bdi", { class: "file-name", title: shownName(name) }, shownName(name)),
    make("span", { class: "file-size" }, sizeText(size, locale)));

/**
 * Put a small picture in the place of the icon; drawn, since a policy may refuse addresses of pictures.
 * @type {(file: File, place: Element) => Promise<void>}
 */
const paint = async (file, place) => {
  if (!/^image\/(?!svg)/.test(file.type) || file.size > THUMBNAIL_MAX_BYTES) return;
  try {
    const picture = await createImageBitmap(file, { resizeHeight: THUMBNAIL_PX, resizeQuality: "medium" });
    const canvas = make("canvas", { width: `${THUMBNAIL_PX}`, height: `${THUMBNAIL_PX}`, "aria-hidden": "true" });
    canvas.getContext("2d")?.drawImage(picture, (THUMBNAIL_PX - picture.width) / 2, 0);
    picture.close();
    place.replaceChildren(canvas);
  } catch {
    // none that the browser can show
  }
};

/** @type {W.CreateFileTray} */
export const createFileTray = (chat, changed) => {
  const { session, locale, say } = chat;
  const t = { ...ENGLISH, ...chat.strings };
  adopt(chat.shadow, FILE_STYLES);
  const files = session.draftFiles;
  const chips = make("ul", { class: "files", role: "list", "aria-label": t.files });
  const note = make("p", { class: "file-note" });
  const hint = make("p", { class: "drop", "aria-hidden": "true" }, t.dropFiles);
  const input = make("input", { type: "file", multiple: true, hidden: true, onchange: () => {
    tray.add([...(input.files ?? [])]);
    input.value = "";
    chat.focus();
  } });

  const show = () => {
    element.hidden = !files.length && !note.textContent;
    changed();
  };
  /** @param {string} text */
  const tell = (text) => {
    note.textContent = text;
    show();
  };
  /** @param {File} file */
  const put = (file) => {
    const item = chip(file, locale);
    item.append(iconButton("close", filled(t.removeFile, { name: quotedName(file.name) }), () => {
      const at = files.indexOf(file);
      files.splice(at, 1);
      item.remove();
      tell("");
      say(filled(t.fileRemoved, { name: quotedName(file.name) }));
      const left = chips.querySelectorAll("button");
      if (left.length) left[Math.min(at, left.length - 1)].focus();
      else chat.focus();
    }));
    chips.append(item);
    void paint(file, item.children[0]);
  };
  /** @type {(file: File, before: number, isFolder?: boolean) => string} */
  const faultIn = (file, before, isFolder) => {
    const { uploads } = session.state;
    const { max_files = 0, max_bytes = 0, types = [] } = uploads ?? {};
    const fault = (isFolder && uploads && "type") || faultOf(file, before, uploads);
    const name = quotedName(file.name);
    if (fault === "off") return chat.strings.error_uploads_off ?? "";
    if (fault === "many") return filled(t.tooManyFiles, { n: max_files.toLocaleString(locale) });
    if (fault === "large") return filled(t.fileTooLarge, { name, size: sizeText(max_bytes, locale) });
    return fault && filled(t.fileOfWrongType, { name, types: typesText(types, locale, t) });
  };

  const element = make("div", { class: "tray", part: "files" }, chips, note, input);
  /** @type {W.FileTray} */
  const tray = {
    element,
    hint,
    text: () => textOf(files),
    pick() {
      input.accept = session.state.uploads?.types.join(",") ?? "";
      input.click();
    },
    add(given, folders = []) {
      const faults = new Set();
      const names = [];
      for (const file of given) {
        const fault = faultIn(file, files.length, folders.includes(file));
        if (fault) faults.add(fault);
        else {
          files.push(file);
          names.push(quotedName(file.name));
          put(file);
        }
        if (faults.size === MOST_SENTENCES) break;
      }
      tell([...faults].join(" "));
      say([names.length ? filled(t.fileAdded, { names: names.join(", ") }) : "", ...faults].join(" ").trim());
    },
    again(held, names) {
      tray.take();
      for (const file of held) {
        files.push(file);
        put(file);
      }
      tell(held.length || !names.length ? "" : filled(t.attachAgainHint, { names: names.map(quotedName).join(", ") }));
      if (note.textContent) say(note.textContent);
    },
    check() {
      const faults = new Set(files.map((file, index) => faultIn(file, index)).filter(Boolean));
      if (!faults.size) return true;
      tell([...faults].slice(0, MOST_SENTENCES).join(" "));
      say(note.textContent ?? "");
      return false;
    },
    take() {
      chips.replaceChildren();
      tell("");
      return files.splice(0);
    },
  };
  files.forEach(put);
  element.hidden = !files.length;
  return tray;
};

/** @type {W.CreateSentFiles} */
export const createSentFiles = (chat, files) => {
  adopt(chat.shadow, FILE_STYLES);
  const t = { ...ENGLISH, ...chat.strings };
  const chips = make("ul", { class: "files", role: "list", "aria-label": t.files });
  chips.append(...files.map((file) => chip(file, chat.locale)));
  const bar = make("progress", { max: "1", "aria-label": t.sendingFiles });
  const element = make("div", { class: "sent" }, chips);
  return {
    element,
    progress(share) {
      if (share === null || share >= 1) return bar.remove();
      bar.value = share;
      if (bar.isConnected) return;
      element.append(bar);
      chat.say(t.sendingFiles);
    },
  };
};
