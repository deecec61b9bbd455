// What the API client is made of. Only the type checker reads this file; it is not served.
import type { ApiClient, Failure as Stored, Outgoing, ReplyEvent, SessionOptions } from "./types.js";

export type Failure = Stored;

/** What came from outside, or was thrown: nothing is known about its members. */
export type Unchecked = any;

/** All but `server` is the browser's where it is not given. */
export interface ClientOptions {
  /** The server's address, perhaps with a path. */
  server: string;
  bot?: string;
  /** What the page adds when a server session is made; it may take its time to ask the visitor. */
  sessionOptions?: () => SessionOptions | Promise<SessionOptions>;
  localStorage?: Storage | null;
  /** A `LockManager`, which may be missing or refuse. */
  locks?: Unchecked;
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
  /** Milliseconds, as `Date.now`. */
  now?: () => number;
  setTimeout?: (work: () => void, milliseconds: number) => any;
  clearTimeout?: (timer: any) => void;
}

export type CreateApiClient = (options: ClientOptions) => ApiClient;

/** A token of a server session, as localStorage has it. */
export interface Token {
  session_id: string;
  token: string;
  /** In milliseconds of our own clock. */
  expires_at: number;
  /** As the server said: `history` may be true. */
  features: Unchecked;
  /** Whether the session has accepted a message. */
  used: Unchecked;
}

export interface Asked {
  headers?: Record<string, string>;
  /** Becomes JSON. */
  data?: object;
  keepalive?: boolean;
  /** In the place of `fetch`; it has its own limit of time. */
  through?: Outgoing["through"];
}

export type TokenFault = (error: Unchecked) => Unchecked;
export type TokenOf = (given: Unchecked) => Token | null;
export type ReadToken = (key: string) => Token | null;
/** Null removes. */
export type WriteToken = (key: string, token: Token | null) => void;
/** Raises AbortError, or ChatError, `network` for whatever else is raised or takes too long. */
export type Within = <T>(
  work: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal,
  milliseconds?: number,
) => Promise<T>;
/** Gives answers of success alone. */
export type Ask = (
  method: string,
  path: string,
  token: Token | null,
  asked?: Asked,
  signal?: AbortSignal,
) => Promise<Response>;
export type BytesOf = (response: Response, signal?: AbortSignal) => AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>;
export type DocumentOf = (response: Response, signal?: AbortSignal) => Promise<Unchecked>;
export type Renew = (key: string, old: Token | null, fault: string, outgoing?: Outgoing) => Promise<Token>;
export type DataOf = (outgoing: Outgoing, token: Token, signal?: AbortSignal) => Promise<object>;
export type Call = (
  conversation: string,
  method: string,
  path: string,
  asked?: Asked,
  signal?: AbortSignal,
  outgoing?: Outgoing,
) => Promise<Response>;
export type Order = (conversation: string, method: string, path: string, asked?: Asked) => Promise<void>;
/** Gives a `ReplyEvent`, or something without an id for a kind that is not known here. */
export type EventOf = (type: string, id: number, given: Unchecked) => Unchecked;
export type EventsOf = (
  response: Response,
  last: number,
  signal?: AbortSignal,
) => AsyncGenerator<ReplyEvent, void, void>;
