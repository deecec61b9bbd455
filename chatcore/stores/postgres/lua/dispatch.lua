-- The end of the one script: runs a list of operations in their order and gives their results in the same order.
--
-- KEYS: the key of each operation. ARGV, for each: its name, how many arguments it has, the arguments.
-- An operation that fails is an error in its place; the others are done all the same.

local results, place = {}, 1
for number, key in ipairs(KEYS) do
  local operation, count, arguments = operations[ARGV[place]], tonumber(ARGV[place + 1]), {}
  for index = 1, count do
    arguments[index] = ARGV[place + 1 + index]
  end
  place = place + 2 + count
  local done, result = pcall(operation, key, arguments)
  if not done then
    results[number] = {err = type(result) == "table" and result.err or "ERR " .. tostring(result)}
  elseif result == nil then
    results[number] = false -- a gap would end the list
  else
    results[number] = result
  end
end
return results
