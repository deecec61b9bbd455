-- Replies that other instances follow: claims `c:`, streams of what a reply said `r:`, a session's streams `s:`, and
-- leases of instances `i:`, below one prefix. A reply's name is "<session>:<message>"; a holder "<instance> <digest>".
--
-- A stream's entry has the number of its last event as its id. Event 1 is the start, which is no entry.

local PREFIX = "chatcore:"
local DROPPED_MS = 10000 -- how long the end of a reply that may run again is there for those who follow it

local function last_event(stream)
  local last = redis.call("XREVRANGE", stream, "+", "-", "COUNT", 1)[1]
  return last and tonumber(string.match(last[1], "^%d+")) or 1
end

-- Entries behind an event as {number, text, number, text, …}: until `room` bytes are full, at least one if any.
local function behind(stream, after, room)
  local found, from = {}, "(" .. after .. "-0"
  while room > 0 do
    local entries = redis.call("XRANGE", stream, from, "+", "COUNT", 16)
    for _, entry in ipairs(entries) do
      if room <= 0 then
        break
      end
      found[#found + 1] = string.match(entry[1], "^%d+")
      found[#found + 1] = entry[2][2]
      room = room - #entry[2][2]
      from = "(" .. entry[1]
    end
    if #entries < 16 then
      break
    end
  end
  return found, room
end

-- `reply_claim holder ttl_ms name` -> "" where the claim is the holder's now, else who has it.
operations.reply_claim = function(claim, arguments)
  local holder = redis.call("SET", claim, arguments[1], "NX", "GET", "PX", arguments[2])
  if holder then
    return holder
  end
  redis.call("UNLINK", PREFIX .. "r:" .. arguments[3]) -- of an earlier run, which n8n never got
  return ""
end

-- `reply_hold holder ttl_ms`: keep a claim, or have it again where Redis lost it. -> who has it
operations.reply_hold = function(claim, arguments)
  local holder = redis.call("SET", claim, arguments[1], "NX", "GET", "PX", arguments[2])
  if holder == arguments[1] then
    redis.call("PEXPIRE", claim, arguments[2])
  end
  return holder or arguments[1]
end

-- `reply_look name after room channel` -> holder or "", whether its instance lives, entries behind `after`.
-- An instance that lives and has written nothing is asked on the channel to write what there is.
operations.reply_look = function(claim, arguments)
  local holder = redis.call("GET", claim)
  if not holder then
    return {"", 0, {}}
  end
  local name, owner = arguments[1], string.match(holder, "^%S+")
  local entries = behind(PREFIX .. "r:" .. name, arguments[2], tonumber(arguments[3]))
  local alive = redis.call("EXISTS", PREFIX .. "i:" .. owner)
  if #entries == 0 and alive == 1 then
    redis.call("PUBLISH", arguments[4], cjson.encode({"show", "", owner, name}))
  end
  return {holder, alive, entries}
end

-- `reply_read room {name after}…` -> for each the entries behind, until `room` bytes are full.
operations.reply_read = function(_, arguments)
  local results, room = {}, tonumber(arguments[1])
  for place = 2, #arguments, 2 do
    local found = {}
    if room > 0 then
      found, room = behind(PREFIX .. "r:" .. arguments[place], arguments[place + 1], room)
    end
    results[#results + 1] = found
  end
  return results
end

-- `reply_append {name after number text ttl_ms}…`: add an entry to each stream whose last event is `after`.
-- -> for each the number of its last event now; so nothing is there twice and nothing is missing in between.
operations.reply_append = function(_, arguments)
  local results = {}
  for place = 1, #arguments, 5 do
    local name, after, number = arguments[place], tonumber(arguments[place + 1]), arguments[place + 2]
    local stream, ttl = PREFIX .. "r:" .. name, arguments[place + 4]
    local last = last_event(stream)
    if last == after then
      redis.call("XADD", stream, number .. "-0", "x", arguments[place + 3])
      redis.call("PEXPIRE", stream, ttl)
      redis.call("PEXPIRE", PREFIX .. "c:" .. name, ttl)
      if last == 1 then
        local session, message = string.match(name, "^(.*):(.*)$")
        redis.call("SADD", PREFIX .. "s:" .. session, message)
        redis.call("PEXPIRE", PREFIX .. "s:" .. session, ttl)
      end
      last = tonumber(number)
    end
    results[#results + 1] = last
  end
  return results
end

-- `reply_release instance name number text`: let go of a claim that the instance holds, so that the message may run again; whoever follows finds
-- the end for a moment.
operations.reply_release = function(claim, arguments)
  if string.match(redis.call("GET", claim) or "", "^%S*") ~= arguments[1] then
    return 0
  end
  local stream = PREFIX .. "r:" .. arguments[2]
  redis.call("UNLINK", claim, stream)
  redis.call("XADD", stream, arguments[3] .. "-0", "x", arguments[4])
  redis.call("PEXPIRE", stream, DROPPED_MS)
  return 1
end

-- `reply_forget session {message}…`: remove all of a session that has a stream, and the messages that are named.
operations.reply_forget = function(key, arguments)
  local messages = redis.call("SMEMBERS", key)
  for place = 2, #arguments do
    messages[#messages + 1] = arguments[place]
  end
  for _, message in ipairs(messages) do
    local name = arguments[1] .. ":" .. message
    redis.call("UNLINK", PREFIX .. "c:" .. name, PREFIX .. "r:" .. name)
  end
  return redis.call("UNLINK", key)
end

-- `lease ttl_ms`: an instance lives.
operations.lease = function(key, arguments)
  redis.call("SET", key, "1", "PX", arguments[1])
  return 1
end

-- `tell text` -> how many instances were told on the channel.
operations.tell = function(channel, arguments)
  return redis.call("PUBLISH", channel, arguments[1])
end

-- `done instance ttl_ms`: an instance has done what it was asked.
operations.done = function(key, arguments)
  redis.call("SADD", key, arguments[1])
  return redis.call("PEXPIRE", key, arguments[2])
end

-- `how_many` -> how many instances have.
operations.how_many = function(key)
  return redis.call("SCARD", key)
end
