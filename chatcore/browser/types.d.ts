// What travels between the browser modules. Only the type checker reads this file; it is not served.

/** A conversation as it is stored. Times are RFC 3339 in UTC with milliseconds: `2026-01-31T09:30:00.000Z`. */
export interface Session {
  /** Made in the browser (`c_` and 22 base64url characters), or what an imported file names. */
  session_id: string;
  /** The bot's name; empty for a server's default bot. */
  bot: string;
  /** What lists show: the beginning of the first message. */
  title: string;
  created_at: string;
  /** Time of the newest message. */
  updated_at: string;
}

export type Role = "user" | "assistant";

/**
 * How a message stands.
 * - user: `pending` (stored, not known to have arrived), `complete` (the server has it), `failed` (it did not arrive,
 *   or was refused: it may be sent again)
 * - assistant: `pending` (the reply is being written, or waits to be resumed), `complete`, `stopped`, `error`
 */
export type Status = "pending" | "complete" | "failed" | "stopped" | "error";

/** Why a message failed: the server's code and sentence, or a code of the client (`network`, `offline`). */
export interface Failure {
  code: string;
  detail: string;
  /** When it makes sense to try again. */
  retry_at?: string;
  /** Which of the message's files it is about, from 0. */
  file?: number;
}

/** What is kept of a file that went along with a message; its content is not. */
export interface FileNote {
  /** At most 255 characters. */
  name: string;
  /** In bytes. */
  size: number;
  /** As the browser named it: a MIME type, or empty. */
  type: string;
}

/** What the server takes along with a message. */
export interface UploadLimits {
  /** Of one file. */
  max_bytes: number;
  max_files: number;
  /** MIME types; `image/*` is all of a kind. */
  types: string[];
}

/** A message as it is stored. Its key is (session_id, message_id, role): a question and its reply share the id. */
export interface Message {
  session_id: string;
  /** The UUID by which the server knows the turn. */
  message_id: string;
  role: Role;
  content: string;
  /** Strictly rising within a session, which makes it the order; `saveMessage` moves it on where it must. */
  created_at: string;
  status: Status;
  /** Of a pending reply: the number of the last event that `content` holds. */
  last_event?: number;
  failure?: Failure;
  rating?: "up" | "down";
  /** Of a question: what was sent with it. */
  files?: FileNote[];
}

/** A message to be saved: `created_at` is set where it is missing. */
export type NewMessage = Omit<Message, "created_at"> & { created_at?: string };

/** What has changed, told to listeners in every tab of this origin; `remote` where another tab did it. */
export interface Change {
  kind: "session" | "message" | "session-deleted" | "message-deleted" | "cleared" | "imported" | "storage";
  session_id?: string;
  message_id?: string;
  remote: boolean;
}

export interface Found {
  session: Session;
  message: Message;
}

export interface ImportReport {
  sessions: number;
  messages: number;
  skipped: number;
}

export type ExportFormat = "json" | "markdown" | "text";

export interface ChatPersistence {
  /**
   * Where things are kept: `indexeddb`, or `memory` where that is denied, broken or full. Known after `init`; every
   * method calls that by itself. A change is told as a `Change` of kind `storage`.
   */
  readonly storage: "unknown" | "indexeddb" | "memory";
  /** Why it is memory: the name of the browser's error, such as `QuotaExceededError`. */
  readonly reason: string;
  init(): Promise<void>;
  /** Newest first. */
  listSessions(): Promise<Session[]>;
  getSession(sessionId: string): Promise<Session | null>;
  /** Make or change a session; members that are left out stay as they are. */
  saveSession(session: Partial<Session> & { session_id: string }): Promise<Session>;
  /**
   * Oldest first: the newest `limit` messages, those before the message `before`, or the oldest after `after`
   * (both are a `created_at` and exclusive).
   */
  getMessages(sessionId: string, options?: { limit?: number; before?: string; after?: string }): Promise<Message[]>;
  getMessage(sessionId: string, messageId: string, role: Role): Promise<Message | null>;
  /** Messages of all sessions that wait for something: status `pending`. */
  pendingMessages(): Promise<Message[]>;
  /**
   * Store a message, or a later state of it, and give what is stored afterwards. Looked up again inside the
   * transaction, since other tabs write too: what has ended does not begin again, and a reply never gets shorter.
   * Null where the session is gone, or half of a turn that was deleted would come back: a new question begins as
   * `pending`, a new reply needs its question.
   */
  saveMessage(message: NewMessage): Promise<Message | null>;
  /** Delete a question and its reply. */
  deleteMessage(sessionId: string, messageId: string): Promise<void>;
  deleteSession(sessionId: string): Promise<void>;
  clear(): Promise<void>;
  /** Messages that contain `text`, newest first, without regard to case. */
  search(text: string, options?: { limit?: number }): Promise<Found[]>;
  exportChatHistory(format?: ExportFormat, options?: { sessionId?: string }): Promise<string>;
  /** Takes the document, its text, or a File. Changes nothing where anything is wrong with it, and says what is. */
  importData(data: unknown, options?: { mode?: "merge" | "replace" }): Promise<ImportReport>;
  /** Gives the function that ends it. */
  onChange(listener: (change: Change) => void): () => void;
}

/** One event of a reply, as the server numbers them from 1. */
export type ReplyEvent =
  | { type: "start"; id: number; session_id: string }
  | { type: "delta"; id: number; content: string }
  | { type: "error"; id: number; failure: Failure }
  | { type: "done"; id: number; finish_reason: "complete" | "stopped" | "error" }
  /** The whole text at once, in place of what was read so far; `done` follows. */
  | { type: "content"; id: number; content: string };

export interface HistoryEntry {
  role: Role;
  content: string;
}

export interface Outgoing {
  message: string;
  message_id: string;
  /** Asked for where the conversation gets a new server session and the server takes earlier messages along. */
  history?: () => Promise<HistoryEntry[]>;
  page_url?: string;
  metadata?: Record<string, unknown>;
  /** Sends the request in the place of `fetch`: with files, so that the server must take them. */
  through?: (url: string, init: RequestInit) => Promise<Response>;
  /** Whether all that `through` sends has left: then the reply is asked for, and nothing is sent once more. */
  sent?: () => boolean;
}

/** What a page may add when a server session is made. */
export interface SessionOptions {
  identity_token?: string;
  challenge_token?: string;
}

/** `conversation` is the local id of a conversation; the client keeps the server's session and token for each. */
export interface ApiClient {
  /** Send a message and read its reply. The same id joins a reply that runs or is kept. Raises `ChatError`. */
  send(conversation: string, outgoing: Outgoing, signal?: AbortSignal): AsyncGenerator<ReplyEvent, void, void>;
  /** Read a reply behind event `after`. Raises `ChatError`, with code `reply_gone` where there is none. */
  resume(
    conversation: string, messageId: string, after: number, signal?: AbortSignal,
  ): AsyncGenerator<ReplyEvent, void, void>;
  /** Stop a running reply; its stream then ends with `done`. */
  stop(conversation: string, messageId: string): Promise<void>;
  rate(conversation: string, messageId: string, rating: "up" | "down"): Promise<void>;
  /**
   * What the server said of the conversation's session, unchecked; undefined where it has none. With `outgoing`, of
   * which the page's address is read, one is made.
   */
  features(conversation: string, outgoing?: Outgoing): Promise<any>;
  /** Erase the conversation's session on the server and forget its token. */
  erase(conversation: string): Promise<void>;
}

/** What a chat is made of. */
export interface ChatParts {
  client: ApiClient;
  persistence: ChatPersistence;
  server: string;
  bot: string;
  /** The open conversation and the draft. */
  localStorage: Storage | null;
  /** Its events, timers and navigator. */
  window: Window;
  /** Milliseconds. */
  now: () => number;
  /** What the page sends with each message. */
  metadata?: () => Record<string, unknown> | undefined;
}

/** What the view asks of a chat. One conversation is open at a time; replies of others go on in the background. */
export interface ChatSession {
  readonly state: ChatState;
  /** What is being typed, kept for each server and bot; write it whenever it changes. */
  draft: string;
  /** What is to go along with the draft. The page has them while it lives, nobody stores them. */
  draftFiles: File[];
  /** Somebody is about to write: ask the server what it takes, where it never said. */
  prepare(): Promise<void>;
  /** Open the conversation that was open last, or a new one, and go on with what is pending. */
  start(): Promise<void>;
  /** Open a stored conversation, or with null a new one; it is stored with its first message. */
  open(sessionId: string | null): Promise<void>;
  /** Conversations of this bot, newest first. */
  sessions(): Promise<Session[]>;
  /** Messages of the open conversation, see `ChatPersistence.getMessages`; a running reply as far as it has come. */
  messages(options?: { limit?: number; before?: string; after?: string }): Promise<Message[]>;
  /**
   * Send a text in the open conversation, perhaps with files, perhaps in place of a turn that has no reply. False where
   * nothing was taken: empty, too long, or a reply is running.
   */
  send(text: string, files?: File[], instead?: string): Promise<boolean>;
  /** Send a `failed` question again; or give what is to be completed first, where its files are not here any more. */
  sendAgain(messageId: string): Promise<Again | null>;
  /** Ask the question of a reply again that failed, was stopped or is unloved; it becomes a new turn. The same else. */
  askAgain(messageId: string): Promise<Again | null>;
  /** Whether the files of a question are here, to be sent again. */
  holds(messageId: string): boolean;
  stop(): Promise<void>;
  rate(messageId: string, rating: "up" | "down"): Promise<void>;
  /** Delete a conversation here and on the server. */
  remove(sessionId: string): Promise<void>;
  onChange(listener: (event: ChatEvent) => void): () => void;
  /** Stop following; replies go on at the server and are resumed by the next `start`. */
  close(): void;
}

/** A question that is to be asked again, with files that somebody must attach. */
export interface Again {
  message: Message;
  /** What is here of its files. */
  files: File[];
  /** The turn that it is asked in place of. */
  instead?: string;
}

export interface ChatState {
  /** The open conversation; null while it is new and has no message. */
  readonly session: Session | null;
  /** The id of the turn that is being answered in the open conversation. */
  readonly running: string | null;
  readonly connection: "ok" | "offline" | "reconnecting";
  readonly storage: "unknown" | "indexeddb" | "memory";
  /** What the server takes along with a message; null where nothing, or that is not known yet. */
  readonly uploads: UploadLimits | null;
}

export type ChatEvent =
  /** `state` changed. */
  | { kind: "state" }
  /** Another conversation is shown, or all of this one may have changed: load its messages again. */
  | { kind: "opened" }
  /** A message of the open conversation is new or has changed. */
  | { kind: "message"; message: Message }
  /** The files of a question are on their way: 0 to 1, and 1 once all of it has left. */
  | { kind: "progress"; message_id: string; share: number }
  /** A question and its reply are gone from the open conversation. */
  | { kind: "removed"; message_id: string }
  /** The list of conversations changed. */
  | { kind: "sessions" }
  /** A reply in the open conversation has ended well, or was stopped. Told only in the tab that asked. */
  | { kind: "reply"; message: Message }
  /** A question was refused or a reply failed. Told only in the tab that asked. */
  | { kind: "failed"; message: Message; failure: Failure };
