-- A value of 256 bytes on one of so many keys (the first argument), or with a second one on keys in groups of 100,000.
local body = "value=" .. string.rep("v", 256)
local keys, grouped

function init(arguments)
  math.randomseed(4711)
  keys, grouped = tonumber(arguments[1]), arguments[2]
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
  local number = math.random(keys)
  local group = grouped and math.floor((number - 1) / 100000) .. "/" or ""
  return wrk.format("PUT", "/v2/keys/bench/" .. group .. number, nil, body)
end
