-- One of so many keys (the first argument); the second is the query, and with a third one keys are in groups.
local keys, query, grouped

function init(arguments)
  math.randomseed(4711)
  keys, query, grouped = tonumber(arguments[1]), arguments[2] or "", arguments[3]
end

function request()
  local number = math.random(keys)
  local group = grouped and math.floor((number - 1) / 100000) .. "/" or ""
  return wrk.format("GET", "/v2/keys/bench/" .. group .. number .. query)
end
