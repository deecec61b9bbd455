-- Counters of the rate limits: buckets by GCRA, and fixed windows. All times are whole microseconds.
--
-- What decides are the times that are stored. Redis' expiry only clears away, a little later.

local CLEARED_LATER_MS = 10000

local function expiry(micros)
  return whole(math.ceil(math.max(micros, 0) / 1000) + CLEARED_LATER_MS)
end

-- A bucket is the moment at which it is full again. `take interval burst` -> admitted, remaining, retry_after, full_after
operations.take = function(key, arguments)
  local interval, burst = tonumber(arguments[1]), tonumber(arguments[2])
  local capacity = interval * burst
  -- Never further ahead than an empty bucket is, whatever a clock that was set back left there.
  local stored = math.min(tonumber(redis.call("GET", key)) or now, now + capacity)
  local full_after = math.max(stored - now, 0) + interval
  if full_after > capacity then
    return {0, 0, full_after - capacity, full_after - interval}
  end
  redis.call("SET", key, whole(now + full_after), "PX", expiry(full_after))
  return {1, math.floor((capacity - full_after) / interval), 0, full_after}
end

-- `give_back interval`: undo one take. A bucket that is full, or forgotten, stays full.
operations.give_back = function(key, arguments)
  local full_at = tonumber(redis.call("GET", key))
  if not full_at then
    return 0
  end
  full_at = full_at - tonumber(arguments[1])
  if full_at > now then
    redis.call("SET", key, whole(full_at), "PX", expiry(full_at - now))
  else
    redis.call("DEL", key)
  end
  return 1
end

-- A window is when it ends and how many were counted. `count limit until` -> as take
operations.count = function(key, arguments)
  local limit = tonumber(arguments[1])
  local ends, used = string.match(redis.call("GET", key) or "", "^(%d+) (%d+)$")
  ends, used = tonumber(ends), tonumber(used)
  if not ends or ends <= now then
    ends, used = tonumber(arguments[2]), 0
  end
  local left = math.max(ends - now, 0)
  if used >= limit then
    return {0, 0, left, left}
  end
  redis.call("SET", key, whole(ends) .. " " .. whole(used + 1), "PX", expiry(left))
  return {1, limit - used - 1, 0, left}
end

-- `uncount`: undo one count.
operations.uncount = function(key)
  local ends, used = string.match(redis.call("GET", key) or "", "^(%d+) (%d+)$")
  if ends and tonumber(used) > 0 then
    redis.call("SET", key, ends .. " " .. whole(tonumber(used) - 1), "KEEPTTL")
  end
  return 0
end
