// The event stream parser: the WHATWG's grammar, any split of the bytes, bounds, linear time.
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createEventParser } from "../../chatcore/browser/sse.js";

const encoder = new TextEncoder();

/** @param {(string | Uint8Array)[]} pieces */
const parse = (...pieces) => {
  const parser = createEventParser();
  return pieces.flatMap((piece) => parser.push(typeof piece === "string" ? encoder.encode(piece) : piece));
};

/** @type {[string, string, {event: string, data: string, id: string}[]][]} */
const GRAMMAR = [
  ["an event of ours", 'id: 1\nevent: start\ndata: {"a":1}\n\n', [{ event: "start", data: '{"a":1}', id: "1" }]],
  ["an event without a name is a message", "data: x\n\n", [{ event: "message", data: "x", id: "" }]],
  ["lines of data are joined", "data: a\ndata:\ndata: b\n\n", [{ event: "message", data: "a\n\nb", id: "" }]],
  ["empty data is data", "data\n\n", [{ event: "message", data: "", id: "" }]],
  ["two empty lines of data are a line feed", "data\ndata\n\n", [{ event: "message", data: "\n", id: "" }]],
  ["no data, no event", "event: x\nid: 4\n\ndata: y\n\n", [{ event: "message", data: "y", id: "4" }]],
  ["a name lasts for one event", "event: x\n\ndata: y\n\n", [{ event: "message", data: "y", id: "" }]],
  [
    "an id lasts until the next",
    "id: 7\ndata: a\n\ndata: b\n\n",
    [
      { event: "message", data: "a", id: "7" },
      { event: "message", data: "b", id: "7" },
    ],
  ],
  [
    "an id may be taken back",
    "id: 7\ndata: a\n\nid\ndata: b\n\n",
    [
      { event: "message", data: "a", id: "7" },
      { event: "message", data: "b", id: "" },
    ],
  ],
  ["an id with NUL is ignored", "id: 7\nid: 8\0\ndata: a\n\n", [{ event: "message", data: "a", id: "7" }]],
  [
    "one space is dropped, not two",
    "data:  a\ndata:b\ndata:\tc\n\n",
    [{ event: "message", data: " a\nb\n\tc", id: "" }],
  ],
  ["comments are skipped", ": ping\n\n:\ndata: a\n:b\n\n", [{ event: "message", data: "a", id: "" }]],
  [
    "unknown fields are ignored",
    "retry: 5\ndata : a\nDATA: b\nfoo\ndata: c\n\n",
    [{ event: "message", data: "c", id: "" }],
  ],
  ["a value keeps its colons", "data: a:b: c\n\n", [{ event: "message", data: "a:b: c", id: "" }]],
  ["CR, LF and CRLF end lines", "data: a\rdata: b\r\ndata: c\n\r\n", [{ event: "message", data: "a\nb\nc", id: "" }]],
  ["two CR end an event", "data: a\r\r", [{ event: "message", data: "a", id: "" }]],
  ["other separators do not", "data: a\u2028b\u0085c\v\n\n", [{ event: "message", data: "a\u2028b\u0085c\v", id: "" }]],
  ["a BOM at the beginning is dropped", "\ufeffdata: a\n\n", [{ event: "message", data: "a", id: "" }]],
  ["a BOM elsewhere is not", "\ndata: \ufeffa\n\n\ufeffdata: b\n\n", [{ event: "message", data: "\ufeffa", id: "" }]],
  ["what has no end is dropped", "data: a\n\ndata: b\n", [{ event: "message", data: "a", id: "" }]],
  ["a last line without an end too", "data: a\n\ndata: b", [{ event: "message", data: "a", id: "" }]],
];

for (const [name, text, events] of GRAMMAR) {
  test(name, () => {
    const bytes = encoder.encode(text);
    assert.deepEqual(parse(bytes), events);
    for (let cut = 0; cut <= bytes.length; cut++) {
      assert.deepEqual(parse(bytes.subarray(0, cut), bytes.subarray(cut)), events, `cut at ${cut}`);
    }
    assert.deepEqual(parse(...Array.from(bytes, (byte) => Uint8Array.of(byte))), events, "byte by byte");
  });
}

test("a cut inside a character loses nothing", () => {
  const bytes = encoder.encode("data: aä€😀\n\n");
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.equal(parse(bytes.subarray(0, cut), bytes.subarray(cut))[0].data, "aä€😀");
  }
});

test("a cut between CR and LF makes no empty line", () => {
  assert.deepEqual(parse("data: a\r", "\ndata: b\r", "", "\n\r", "\n"), [{ event: "message", data: "a\nb", id: "" }]);
});

test("an event is there as soon as its CR is, not only with what follows", () => {
  assert.equal(parse("data: a\r\n\r").length, 1);
});

test("bytes that are no UTF-8 become replacement characters", () => {
  assert.equal(parse("data: a", Uint8Array.of(0xff, 0xe2, 0x82), "b\n\n")[0].data, "a\ufffd\ufffdb");
});

const text = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "data",
        "event",
        "id",
        "retry",
        ":",
        ": ",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\0",
        "\ufeff",
        "é",
        "😀",
        "1",
      ),
      fc.string({ unit: "binary", maxLength: 4 }),
    ),
    { maxLength: 40 },
  )
  .map((parts) => encoder.encode(parts.join("")));
const bytes = fc.oneof(
  text,
  fc.uint8Array({ maxLength: 60 }),
  fc.tuple(text, fc.uint8Array({ maxLength: 5 }), text).map((parts) => Buffer.concat(parts)),
);

test("any split says what the whole says", () => {
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(), { maxLength: 12 }), (whole, cuts) => {
      const places = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length];
      const pieces = places.slice(1).map((end, i) => whole.subarray(places[i], end));
      assert.deepEqual(parse(...pieces), parse(whole));
    }),
    { numRuns: 2000 },
  );
});

test("what a plain reading of the grammar says", () => {
  /** @param {Uint8Array} whole */
  const plainly = (whole) => {
    const all = Buffer.from(whole)
      .toString("utf8")
      .replace(/^\ufeff/, "");
    const events = [];
    let [event, data, id] = ["", "", ""];
    for (const line of all.split(/\r\n|\r|\n/).slice(0, -1)) {
      if (line === "") {
        if (data !== "") events.push({ event: event === "" ? "message" : event, data: data.replace(/\n$/, ""), id });
        [event, data] = ["", ""];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") data += `${value}\n`;
      else if (field === "event") event = value;
      else if (field === "id" && !value.includes("\0")) id = value;
    }
    return events;
  };
  fc.assert(
    fc.property(bytes, (whole) => assert.deepEqual(parse(whole), plainly(whole))),
    { numRuns: 2000 },
  );
});

const LONG = 8 * 2 ** 20;

test("an event beyond 8 Mi characters is refused, in one line, in many, or as a comment", () => {
  const piece = encoder.encode("x".repeat(2 ** 20));
  for (const beginning of ["data: ", "event: ", ":", "x"]) {
    const parser = createEventParser();
    parser.push(encoder.encode(beginning));
    assert.throws(() => {
      for (let i = 0; i < 8; i++) parser.push(piece);
      parser.push(encoder.encode("yyyyyyy"));
    }, RangeError);
    assert.throws(() => parser.push(encoder.encode("\n\n")), RangeError, "and it stays refused");
  }
  const lines = createEventParser();
  assert.throws(() => {
    for (let i = 0; i < 9; i++) lines.push(encoder.encode(`data: ${"x".repeat(2 ** 20)}\n`));
  }, RangeError);
});

test("long events below the bound pass, one after another", () => {
  const long = "x".repeat(LONG - 100);
  assert.deepEqual(
    parse(`data: ${long}\n\ndata: ${long}\n\n`).map(({ data }) => data.length),
    [LONG - 100, LONG - 100],
  );
});

/** @param {Iterable<Uint8Array>} pieces */
const seconds = (pieces) => {
  const parser = createEventParser();
  const began = process.hrtime.bigint();
  for (const piece of pieces) parser.push(piece);
  return Number(process.hrtime.bigint() - began) / 1e9;
};

test("a megabyte byte by byte takes linear time, as one line or as many", () => {
  for (const whole of ["x".repeat(2 ** 20), "data: a\n".repeat(2 ** 17)]) {
    const pieces = Array.from(encoder.encode(`data: ${whole}\n\n`), (byte) => Uint8Array.of(byte));
    const took = seconds(pieces);
    assert.ok(took < 8, `${took} s`); // quadratic time would take minutes
  }
});
