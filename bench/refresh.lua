-- The TTL (the second argument) of so many keys (the first one) set anew without their values, one after another.
local keys, body
local number = 0

function init(arguments)
  keys = tonumber(arguments[1])
  body = "refresh=true&prevExist=true&ttl=" .. arguments[2]
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
  number = number % keys + 1
  return wrk.format("PUT", "/v2/keys/bench/" .. number, nil, body)
end
