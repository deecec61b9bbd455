// Bytes of an event stream become events, by the WHATWG's grammar, wherever the bytes are cut.

/** A parser of one stream: `push` gives what is complete; raises RangeError for an event over 8 Mi characters. */
export const createEventParser = () => {
  const decoder = new TextDecoder(); // drops the BOM
  let [line, event, data, id] = ["", "", "", ""];
  let afterCR = false;

  return {
    /** @param {Uint8Array} bytes */
    push(bytes) {
      const events = [];
      let text = decoder.decode(bytes, { stream: true });
      if (text) {
        if (afterCR && text[0] === "\n") text = text.slice(1); // of a line that has ended
        afterCR = text.endsWith("\r");
      }
      for (const [i, piece] of text.split(/\r\n|\r|\n/).entries()) {
        if (i) {
          const colon = `${line}:`.indexOf(":");
          const field = line.slice(0, colon);
          const value = line.slice(colon + 1).replace(/^ /, "");
          if (field === "data") data += value + "\n";
          if (field === "event") event = value;
          if (field === "id" && !value.includes("\0")) id = value;
          if (!line) {
            if (data) events.push({ event: event || "message", data: data.slice(0, -1), id });
            event = data = "";
          }
          line = "";
        }
        line += piece;
        if (line.length + data.length > 2 ** 23) throw new RangeError("event too large");
      }
      return events;
    },
  };
};
