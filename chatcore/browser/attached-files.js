// The files that go along with messages: what is on its way, what can be sent again. Loaded with the first.
/** @import { FileNote, Message, Outgoing } from "./types.js" */

const HELD = 20; // messages whose files can be sent again; they are the browser's to read, little of them is memory

/** Failures that the same files would have again. */
const OF_THE_FILES = /^(body_too_large|unsupported_media_type|invalid_request|uploads_off)$/;
/** @param {(message_id: string, share: number) => void} told how far files are, see `ChatEvent` */
export const createAttachedFiles = (told) => {
  /** By message id. @type {Map<string, File[]>} */
  const held = new Map();
  /** @type {Map<string, number>} */
  const shares = new Map();

  return {
    /** @param {string} id */
    of: (id) => held.get(id),
    /** What is kept of them with their message. @param {string} id @param {File[]} files @returns {FileNote[]} */
    hold(id, files) {
      held.set(id, files);
      for (const oldest of held.keys()) if (held.size > HELD) held.delete(oldest);
      return files.map(({ name, size, type }) => ({ name: name.slice(0, 255), size, type: type.slice(0, 255) }));
    },
    /** @param {string} id */
    drop: (id) => void held.delete(id),
    /** Whether a question can go with the same files once more. @param {Message} question */
    canSend: ({ message_id, failure }) => held.has(message_id) && !OF_THE_FILES.test(failure?.code ?? ""),
    /** Whether some of them have not left yet. @param {string} id */
    isLeaving: (id) => (shares.get(id) ?? 1) < 1,
    /** What sends a message's files with it; nothing where it has none. @param {string} id @returns {Partial<Outgoing>} */
    outgoing(id) {
      const files = held.get(id);
      if (!files) return {};
      let sent = false;
      const tell = (/** @type {number} */ share) => {
        sent = share === 1;
        shares.set(id, share);
        told(id, share);
      };
      return {
        sent: () => sent,
        through: async (url, init) => {
          tell(0);
          try {
            const { upload } = await import("./file-upload.js");
            return await upload(url, init, files, tell);
          } finally {
            shares.delete(id);
          }
        },
      };
    },
  };
};
