-- Three short requests for each long one, each on a connection of its own: a worker that is replaced closes those it has.
local number = 0
function request()
   number = number + 1
   return wrk.format("GET", number % 4 == 0 and "/long" or "/short", {["Connection"] = "close", ["Host"] = "localhost"})
end
