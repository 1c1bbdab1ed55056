-- Nine reads to one write of 256 bytes, on one of so many keys (the first argument).
local form = {["Content-Type"] = "application/x-www-form-urlencoded"}
local body = "value=" .. string.rep("v", 256)
local keys

function init(arguments)
  math.randomseed(4711)
  keys = tonumber(arguments[1])
end

function request()
  local target = "/v2/keys/bench/" .. math.random(keys)
  if math.random(10) == 1 then
    return wrk.format("PUT", target, form, body)
  end
  return wrk.format("GET", target)
end
