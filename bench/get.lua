-- One of 10,000 keys; the first argument is the query.
local query

function init(arguments)
  math.randomseed(4711)
  query = arguments[1] or ""
end

function request()
  return wrk.format("GET", "/v2/keys/bench/" .. math.random(10000) .. query)
end
