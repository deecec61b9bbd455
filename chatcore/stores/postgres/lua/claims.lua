-- Claims: a key that one owner holds for a time, so that all instances agree on who does something.

-- `claim owner ttl_ms` -> "" where it was free and is the owner's now, else who holds it.
operations.claim = function(key, arguments)
  return redis.call("SET", key, arguments[1], "NX", "GET", "PX", arguments[2]) or ""
end

-- `look` -> who holds it, or "".
operations.look = function(key)
  return redis.call("GET", key) or ""
end

-- `release [owner]` -> 1 where it was let go; with an owner only where that one holds it.
operations.release = function(key, arguments)
  if arguments[1] and redis.call("GET", key) ~= arguments[1] then
    return 0
  end
  return redis.call("DEL", key)
end

-- `mark token ttl_ms` -> the token of who came first since Redis has its data. It is written each time, so that a Redis
-- which takes no writes is found out.
operations.mark = function(key, arguments)
  local token = redis.call("SET", key, arguments[1], "NX", "GET", "PX", arguments[2])
  if not token then
    return arguments[1]
  end
  redis.call("PEXPIRE", key, arguments[2])
  return token
end
