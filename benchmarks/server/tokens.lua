-- wrk: posts one body again and again and counts answers by status. benchmarks/server/wrk.sh starts it.
--   wrk ... -s benchmarks/server/tokens.lua URL -- FILE
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    local file = assert(io.open(args[1], "rb"), "no file " .. tostring(args[1]))
    wrk.method = "POST"
    wrk.path = "/v1/tokens?dtype=f16"
    wrk.headers["Content-Type"] = "application/octet-stream"
    wrk.body = file:read("*a")
    file:close()
    ok, refused, other = 0, 0, 0
end

function response(status)
    if status == 200 then
        ok = ok + 1
    elseif status == 503 then
        refused = refused + 1
    else
        other = other + 1
    end
end

function done(summary, latency)
    local sums = { ok = 0, refused = 0, other = 0 }
    for _, thread in ipairs(threads) do
        for name in pairs(sums) do
            sums[name] = sums[name] + thread:get(name)
        end
    end
    local seconds = summary.duration / 1e6
    print(string.format("answered %d (%.1f a second), refused %d, other %d; p50 %.2f ms, p99 %.2f ms",
        sums.ok, sums.ok / seconds, sums.refused, sums.other,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
