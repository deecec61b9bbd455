// Tells which of the modules on standard input, [[name, source, source as it is served], …], mean something else.
import { createRequire } from "node:module";

const { parse } = createRequire(createRequire(import.meta.url).resolve("eslint"))("espree");

/** @param {string} source */
const meaning = (source) =>
  JSON.stringify(parse(source, { ecmaVersion: 2024, sourceType: "module" }), (key, value) =>
    key === "start" || key === "end" ? undefined : value);

let input = "";
for await (const piece of process.stdin) input += piece;
const different = JSON.parse(input).filter((/** @type {string[]} */ [, source, served]) => meaning(source) !== meaning(served));
process.stdout.write(JSON.stringify(different.map((/** @type {string[]} */ [name]) => name)));
