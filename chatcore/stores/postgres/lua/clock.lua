-- The beginning of the one script: the table of operations, and the server's clock that all of them share.
--
-- Every other file but the last adds functions to `operations`: function(key, arguments) -> what its caller gets.
-- Arguments come as strings. A file's own locals are its own.

local operations = {}

-- Microseconds since the Unix epoch, the same for a whole run. A number of Lua holds them exactly.
local seconds, micros = unpack(redis.call("TIME"))
local now = tonumber(seconds) * 1000000 + tonumber(micros)

-- What must be stored exactly; tostring() would round it.
local function whole(number)
  return string.format("%.0f", number)
end
