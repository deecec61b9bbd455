// What travels between the modules that store conversations. Only the type checker reads this file; it is not served.
import type {
  Change, ChatPersistence, ExportFormat, Failure, FileNote, ImportReport, Message, NewMessage, Role, Session, Status,
} from "./types.js";

export type { ExportFormat, FileNote, Message, Session };

export type Mode = "readonly" | "readwrite";

/** A session's id, or what names a message. */
export type Key = [id: string, messageId?: string, role?: Role];

export interface Page {
  limit?: number;
  before?: string;
  after?: string;
}

/** What can be done within one transaction, whatever keeps the data. */
export interface Tables {
  get: {
    (id: string): Promise<Session | undefined>;
    (id: string, messageId: string, role: Role): Promise<Message | undefined>;
  };
  sessions(): Promise<Session[]>;
  /** See `ChatPersistence.getMessages`. */
  messages(id: string, page?: Page): Promise<Message[]>;
  pending(): Promise<Message[]>;
  /** What is put after its session. */
  put(...values: (Session | Message)[]): void;
  /** All that there is, all of a session, or a question and its reply. */
  remove(...key: [] | [id: string] | [id: string, messageId: string]): void;
}

export type Work<T> = (tables: Tables) => Promise<T>;

/** A result, and what listeners are to be told once it is stored. */
export type Written<T> = Promise<[T, ...News[]]>;

export type News = Omit<Change, "remote">;

/** Run `work` in one transaction: all of it is stored, or nothing. It runs once more where the connection broke. */
export type Transact = <T>(mode: Mode, work: Work<T>, again?: boolean) => Promise<T>;
/** Opened when it is needed, anew after a close, and never waited for without end. `factory` may throw. */
export type CreateDatabase = (factory: () => IDBFactory) => Transact;
/** Number n leads from version n to version n + 1. */
export type Upgrade = (database: IDBDatabase) => void;
export type Ask = <T>(request: IDBRequest<T>) => Promise<T>;

export interface Memory {
  /** What waits to be written to the database, by key. */
  readonly waiting: Map<string, Session | Message>;
  remove: Tables["remove"];
  /**
   * What waits, laid over what is `below`; where nothing is, over what was seen there. Changes go to `staged`, to be
   * called after success.
   */
  over(below: Tables | null, staged: (() => void)[]): Tables;
}
/** Of one kind, told by a member it has, and of names with that start. */
export type Lay = (below: any[] | undefined, start: string, member: string) => any[];

export interface Surroundings {
  /** Reading it may throw. */
  readonly indexedDB?: any;
  /** Carries changes to other tabs where there is no BroadcastChannel. */
  readonly localStorage?: Storage;
  /** Milliseconds since 1970. */
  now: () => number;
  broadcast?: Channel;
}

export interface Channel {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(change: unknown): void;
}

export interface Persistence extends ChatPersistence {
  storage: "unknown" | "indexeddb" | "memory";
  /** The name of the error because of which it is memory, else empty. */
  reason: string;
}

/** A conversation of a document, checked. */
export interface Conversation {
  session: Session;
  messages: Message[];
}

export type Create = (surroundings: Surroundings) => Persistence;
/** Later, and each listener alone: a fault of one is neither another's nor the writer's. */
export type Tell = (change: Change) => void;
export type Settle = (kind: Persistence["storage"], error?: any) => void;
/**
 * Writing stores all that waits in memory first. Where the database refuses, the changes wait too, but what is to be
 * removed is removed from it; where it can't even be read, memory is all there is.
 */
export type Run = <T>(work: Work<T>, mode?: Mode, strict?: boolean) => Promise<T>;
/** One after the other, since all share the memory. `strict`: fail where the database refuses. */
export type Write = <T>(work: (tables: Tables) => Written<T>, strict?: boolean) => Promise<T>;
export type PutSession = (tables: Tables, given: Partial<Session> & { session_id: string }) => Written<Session>;
/**
 * Half a turn that was deleted is not brought back: a new question begins as pending, and a new reply comes behind its
 * question; else nothing is stored. `kept`: it was stored in memory before.
 */
export type PutMessage = (tables: Tables, message: NewMessage, kept?: boolean) => Written<Message | null>;
/** What is stored where `message` comes upon `old`: what has ended does not begin again, and nothing gets shorter. */
export type Further = (old: Message, message: NewMessage) => Message;
export type Erase = (kind: Change["kind"], ...key: Parameters<Tables["remove"]>) => Promise<void>;

/** Checks a value and gives a copy of it; raises `HistoryFormatError`, with where it is. */
export type Reader = (value: any, where: string) => any;
export type Members = Record<string, Reader>;

/** A message as it is exported. */
export interface Exported {
  message_id: string;
  role: Role;
  content: string;
  created_at: string;
  status: Status;
  failure?: Failure;
  rating?: "up" | "down";
  files?: FileNote[];
}

/** The pieces of a document, in their order; `index` and `count` are of the sessions, or of a session's messages. */
export interface Writer {
  begin(exportedAt: string): string;
  session(session: Session, index: number): string;
  message(message: Exported, index: number): string;
  close(count: number): string;
  end(count: number): string;
}

/**
 * What the server's `export` writes of a session, one object in a file or one in each line. The messages come in their
 * order; where one is not later than the one before, it is moved on by a millisecond. Times are RFC 3339.
 */
export interface ServerSession {
  format: "chatcore-session";
  version: 1;
  /**
   * Other members than these are not read, in its turns too. Everywhere else they are refused: what is new needs another
   * version. A turn without an entry is complete.
   */
  session: {
    session_id: string;
    bot: string;
    created_at: string;
    turns?: ServerTurn[];
    [other: string]: unknown;
  };
  messages: { message_id: string; role: Role; content: string; created_at: string }[];
}

/** How a turn ended. `released`: n8n never got it; `open` and `cut` ones have no end that is known. */
export interface ServerTurn {
  message_id: string;
  state: "complete" | "stopped" | "error" | "open" | "released" | "cut";
  error_code?: string | null;
  rating?: "up" | "down" | null;
  [other: string]: unknown;
}

export type Export = (
  persistence: ChatPersistence, now: () => number, format?: ExportFormat, options?: { sessionId?: string },
) => Promise<string>;
export type Import = (
  write: Write, data: unknown, options?: { mode?: "merge" | "replace" },
) => Promise<ImportReport>;
