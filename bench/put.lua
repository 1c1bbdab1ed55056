-- A value of 256 bytes on one of 10,000 keys.
local body = "value=" .. string.rep("v", 256)

function init()
  math.randomseed(4711)
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
  return wrk.format("PUT", "/v2/keys/bench/" .. math.random(10000), nil, body)
end
