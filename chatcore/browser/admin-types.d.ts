// What the modules of the operators' page share. Only the type checker reads this file; it is not served.

export type Interval = "hour" | "day";
export type Range = "24h" | "7d" | "30d" | "90d" | "custom";

/** What happened in some time. Percentiles are null where no reply ended well. */
export interface Figures {
  sessions: number;
  messages: number;
  replies: number;
  errors: number;
  reply_ms_p50: number | null;
  reply_ms_p95: number | null;
  feedback_up: number;
  feedback_down: number;
}

/** The figures of one interval; `start` in epoch milliseconds. */
export interface Slot extends Figures {
  start: number;
}

/** An origin or a page. Its name comes from outside. */
export interface Place {
  name: string;
  sessions: number;
  messages: number;
}

/** The server's answer, checked; times in epoch milliseconds. */
export interface Report {
  from: number;
  to: number;
  interval: Interval;
  totals: Figures;
  series: Slot[];
  origins: Place[];
  pages: Place[];
  /** Null in a mode that does not know its visitors again. */
  cohorts: Cohorts | null;
}

/** Who came back, how long conversations are, and when people write. Null where there was nothing. */
export interface Cohorts {
  returning: number;
  fresh: number;
  /** Messages of a session: on average, of half the sessions at most, of 95 in a hundred at most. */
  mean: number | null;
  half: number | null;
  most: number | null;
  counts: { messages: string; sessions: number }[];
  /** Messages by the hour of the UTC day, 24 of them. */
  hours: number[];
}

/** What is asked for: epoch milliseconds, half-open, both on bounds of the interval. `bot` empty: all. */
export interface Query {
  from: number;
  to: number;
  interval: Interval;
  bot: string;
}

/** What the controls say. `first` and `last` are UTC days as date fields give them, both included. */
export interface Choice {
  range: Range;
  interval: Interval;
  first: string;
  last: string;
  bot: string;
}

/** What is said where a call fails. */
export interface Texts {
  /** This mode has nothing like it. */
  none: string;
  /** The database does not answer. */
  unavailable: string;
  /** There is no such thing. */
  unknown?: string;
}

/** One call below `api/v1/admin/`. Empty parameters are left out. `read` throws where the answer is not the contract's. */
export interface Request<T> {
  method?: "GET" | "DELETE";
  path: string;
  parameters?: Record<string, string>;
  read(document: unknown): T;
  texts: Texts;
}

/** Why a call failed. "token": it is to be forgotten; "not stored": this mode never has an answer; "question": it is wrong. */
export interface Refused {
  said: string;
  why: "token" | "not stored" | "question" | "other";
}

/** What came of a call. */
export type Answer<T> = { found: T } | Refused;

/** How views ask: with the operator's token. A token that is wrong ends what is shown. */
export type Ask = <T>(request: Request<T>, signal: AbortSignal) => Promise<Answer<T>>;

/** What an address of the page shows. */
export type Address =
  | { view: "figures" }
  | { view: "conversations"; filter: Filter }
  | { view: "session"; id: string }
  | { view: "audit" };

/** Which conversations are looked for, as it is typed. `from` and `to` are UTC days, both included. */
export interface Filter {
  q: string;
  origin: string;
  bot: string;
  from: string;
  to: string;
}

/** One of the page's views. It is hidden when it is made. */
export interface View {
  element: HTMLElement;
  title: string;
  /** Where the focus goes when an operator comes to the view, and when one has signed in. */
  heading: HTMLElement;
  entry: HTMLElement;
  /** Show what the address says; `from` is the view that was shown before. Resolves when it is shown, or said why not. */
  open(address: Address, from: string): Promise<void>;
  /** End calls that are under way. */
  leave(): void;
  /** Forget what was shown; and what was typed, where the operator leaves. */
  forget(isLeaving: boolean): void;
}

/** What views are given by the page. */
export interface Host {
  ask: Ask;
  /** Whether the server has several bots. */
  hasBots: boolean;
}

/** A conversation in a list; times in epoch milliseconds. All texts come from outside. */
export interface Conversation {
  id: string;
  bot: string;
  origin: string;
  page: string;
  began: number;
  seen: number;
  messages: number;
  errors: number;
  up: number;
  down: number;
  user: string | null;
  excerpt: string | null;
}

/** One message of a transcript. */
export interface Said {
  isVisitor: boolean;
  text: string;
  at: number;
  finish: string | null;
  fault: string | null;
  took: number | null;
  rating: string | null;
  comment: string | null;
}

/** One entry of the audit log. */
export interface Entry {
  number: number;
  at: number;
  actor: string;
  action: string;
  session: string | null;
  address: string;
  detail: [string, string][];
}

/** Part of a list, and the mark that leads to more of it; empty at its end. */
export interface Part<T> {
  all: T[];
  before: string;
  truncated: boolean;
}

/** The view of conversations, and what the view of one needs of it. */
export interface Conversations extends View {
  /** What the list knows of a conversation. */
  find(id: string): Conversation | undefined;
  /** The address of the list as it was shown last. */
  address(): string;
  /** The list is no longer true: it is asked for anew when it is shown next, and this is said then. */
  refresh(said: string): void;
}

/** A list that grows page by page. */
export interface Pages<T> {
  /** What is said of the list, read out. */
  status: HTMLElement;
  list: HTMLElement;
  more: HTMLButtonElement;
  /** How many are shown. */
  count(): number;
  clear(): void;
  /** End the call that is under way; what is shown stays. */
  leave(): void;
  /** Show the first page. `give` makes the request for the page behind a mark, "" for the first; `prefix` is said too. */
  load(give: (before: string) => Request<Part<T>>, prefix?: string): Promise<void>;
}

export type CreatePages = <T>(setup: {
  ask: Ask;
  /** One node of the list; a new one is focused where it holds no link, so it needs a tabindex. */
  item(one: T): HTMLElement;
  /** The sentence about the list. */
  tell(shown: number, hasMore: boolean, truncated: boolean): string;
  label: string;
  more: string;
  /** Further pages come before those that are shown. */
  isUpward?: boolean;
}) => Pages<T>;

/** A tick of the time axis, at a point of the series. */
export interface TimeTick {
  index: number;
  label: string;
}

/** How the points of a series are told. */
export interface TimeTexts {
  /** One point in full. */
  point(start: number): string;
  /** From and to, the last included. */
  span(from: number, to: number): string;
  /** As in "messages per UTC day". */
  per: string;
  /** What the first column of tables is called. */
  column: string;
}

/** One row of values in a plot. */
export interface Member {
  key: "sessions" | "messages" | "errors" | "reply_ms_p50" | "reply_ms_p95";
  /** In tables, the legend and what is read out. */
  label: string;
  style: string;
}

/** What a plot shows. */
export interface PlotSetup {
  id: string;
  title: string;
  /** What it tells; "per hour" or the like follows. */
  text: string;
  kind: "bars" | "lines";
  members: Member[];
  /** Where there is nothing to show. */
  empty: string;
  /** A value for people. */
  value(value: number): string;
}

export interface Plot {
  element: HTMLElement;
  /** Show a report; the time `now` tells which point is not complete. */
  show(report: Report, now: number): void;
  /** Show no figures. */
  clear(): void;
}

/** Room for a plot in pixels: from its left and top edge. */
export interface Box {
  width: number;
  height: number;
}
