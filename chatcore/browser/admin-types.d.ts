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

/** What came of a call: figures, or a sentence. `token` "wrong": it is to be forgotten. */
export type Answer = { report: Report } | { said: string; token: "wrong" | "unknown" };

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
