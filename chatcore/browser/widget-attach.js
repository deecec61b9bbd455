// How files come to a message: chosen with a button, pasted, dropped on the panel. Loaded where the server takes files.
import { iconButton } from "./widget-nodes.js";
/** @import * as W from "./widget.js" */

/** @type {W.CreateAttachments} */
export const createAttachments = (chat, composer, input) => {
  const { session, strings: t } = chat;
  /** @type {W.FileTray | null} */
  let tray = null;
  /** @type {Promise<W.FileTray | null> | null} */
  let loading = null;
  let dragged = false;

  // What shows files comes with the first one.
  const withTray = () =>
    (loading ??= import("./widget-files.js").then(
      ({ createFileTray }) => {
        tray = createFileTray(chat, composer.state);
        composer.element.prepend(tray.element);
        return tray;
      },
      () => {
        loading = null;
        chat.missing();
        return null;
      },
    ));
  /** @type {(files: File[], folders?: File[]) => Promise<void>} */
  const add = async (files, folders) => (await withTray())?.add(files, folders);

  const button = iconButton("clip", t.attach, async () => (await withTray())?.pick(), {
    class: "icon attach", part: "attach",
  });
  input.addEventListener("paste", (event) => {
    const { files = [], types = [] } = event.clipboardData ?? {};
    // Word processors add a picture of the text.
    if (!files.length || (types.includes("text/html") && types.includes("text/plain"))) return;
    event.preventDefault();
    void add([...files]);
  });

  const panel = /** @type {HTMLElement} */ (composer.element.parentElement);
  /** @param {DragEvent} event */
  const over = (event) => {
    const { dataTransfer } = event;
    if (!dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // else the browser would leave the page for the file
    const fits = session.state.uploads && !composer.element.hidden;
    dataTransfer.dropEffect = fits ? "copy" : "none";
    if (!fits || dragged) return;
    dragged = true;
    void withTray().then((made) => made && dragged && panel.append(made.hint));
  };
  const leave = () => {
    dragged = false;
    tray?.hint.remove();
  };
  panel.addEventListener("dragenter", over);
  panel.addEventListener("dragover", over);
  panel.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!panel.contains(/** @type {Node | null} */ (relatedTarget))) leave();
  });
  panel.addEventListener("drop", (event) => {
    leave();
    const { files = [], items = [] } = event.dataTransfer ?? {};
    if (!files.length) return;
    event.preventDefault();
    const isFolder = (/** @type {DataTransferItem} */ item) => item.webkitGetAsEntry?.()?.isDirectory;
    const folders = [...items].flatMap((item) => (isFolder(item) && item.getAsFile()) || []);
    void add([...files], folders);
    chat.focus();
  });

  if (session.draftFiles.length) void withTray(); // of a view before this one
  return {
    button,
    state: () => void (button.hidden = !session.state.uploads),
    take: async () => {
      const made = session.draftFiles.length ? await withTray() : null;
      if (!made) return [[], ""];
      const names = made.text(); // of what is there before it is taken
      return [made.check() ? made.take() : null, names];
    },
    async again(held, names = []) {
      (await withTray())?.again(held, names);
      button.focus();
    },
  };
};
