-- SPDX-License-Identifier: Apache-2.0
-- wrk's half of load.py. Arguments: a JSON-free list of method, path, token, body
-- and a file of ids, one a line; each request takes the next id for every @ID@.
-- At the end one line of JSON with counts and latencies goes to standard output.
local requests, at = {}, 0

function init(args)
   local method, path, token, body, file = args[1], args[2], args[3], args[4], args[5]
   local headers = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
   if method == "GET" then
      body, headers["Content-Type"] = nil, nil
   end
   for id in io.lines(file) do
      local this = body and body:gsub("@ID@", id)
      requests[#requests + 1] = wrk.format(method, (path:gsub("@ID@", id)), headers, this)
   end
end

function request()
   at = at % #requests + 1
   return requests[at]
end

function done(summary, latency)
   local e = summary.errors
   print(string.format('{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}',
      summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
