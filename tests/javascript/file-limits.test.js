// What of chosen files may be sent, and how they are named in any language.
import assert from "node:assert/strict";
import { test } from "node:test";
import { faultOf, quotedName, shownName, sizeText, textOf, typesText } from "../../chatcore/browser/file-limits.js";

const LIMITS = { max_bytes: 1000, max_files: 2, types: ["image/*", "application/pdf", "text/plain"] };

test("a file may go along within count, size and type", () => {
  const cases = /** @type {const} */ ([
    [{ size: 1000, type: "image/png" }, 0, ""],
    [{ size: 0, type: "text/plain" }, 1, ""],
    [{ size: 1, type: "Text/Plain; charset=utf-8" }, 0, ""],
    [{ size: 1, type: "" }, 0, ""], // the server looks at what it is
    [{ size: 1, type: "image/png" }, 2, "many"],
    [{ size: 1001, type: "image/png" }, 0, "large"],
    [{ size: 1, type: "text/html" }, 0, "type"],
    [{ size: 1, type: "imagery/png" }, 0, "type"],
    [{ size: 1, type: "application/pdfx" }, 0, "type"],
  ]);
  for (const [file, before, fault] of cases) assert.equal(faultOf(file, before, LIMITS), fault, JSON.stringify(file));
  assert.equal(faultOf({ size: 1, type: "x/y" }, 0, { ...LIMITS, types: ["*/*"] }), "");
  assert.equal(faultOf({ size: 1, type: "text/plain" }, 0, null), "off");
});

test("sizes are told as the language tells them", () => {
  const sizes = [0, 1, 999, 1000, 1499, 999_499, 999_500, 1_500_000, 99_950_000, 2 ** 30, 5e12];
  const english = ["0 bytes", "1 byte", "999 bytes", "1 kB", "1 kB", "999 kB", "1 MB", "1.5 MB", "100 MB", "1.1 GB"];
  assert.deepEqual(sizes.map((size) => sizeText(size, "en")), [...english, "5,000 GB"]);
  assert.equal(sizeText(1_500_000, "de"), "1,5 MB");
  assert.match(sizeText(1_500_000, "fr"), /^1,5\sMo$/);
});

test("a name can't pass for another one, nor fill a sentence", () => {
  assert.equal(shownName("a\u202egpj.exe\n\0"), "a\ufffdgpj.exe\ufffd\ufffd");
  assert.equal(quotedName("a.txt"), "\u2068a.txt\u2069");
  const long = quotedName(`${"n".repeat(300)}.txt`);
  assert.equal([...long].length, 62);
  assert.ok(long.endsWith("nnnnnn.txt\u2069"));
  assert.equal([...quotedName("😀".repeat(99))].length, 62);
});

test("a message without words says the names, and is one that a server takes", () => {
  assert.equal(textOf([{ name: "a.txt" }, { name: "b c.pdf" }]), "a.txt, b c.pdf");
  assert.equal(textOf([{ name: " " }]), "file");
  assert.equal([...textOf(Array.from({ length: 100 }, () => ({ name: "😀".repeat(200) })))].length, 10_000);
});

test("types are named for people", () => {
  const words = { image: "images", text: "text" };
  assert.equal(typesText(LIMITS.types, "en", words), "images, PDF, or text");
  assert.equal(typesText(["audio/*", "application/vnd.ms-excel", "text/csv"], "en", words),
    "audio/*, application/vnd.ms-excel, or CSV");
});
