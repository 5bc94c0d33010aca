-- The end of a run as one JSON line; times in microseconds.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"duration_us":%d,"requests":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,"refused":%d,"unanswered":%d}\n',
      summary.duration, summary.requests, latency:percentile(50), latency:percentile(99), latency.max,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
