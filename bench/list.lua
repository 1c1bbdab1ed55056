-- The second argument again and again.
local target

function init(arguments)
  target = arguments[2]
end

function request()
  return wrk.format("GET", target)
end
