### What the limit check answers to a workflow that asks whether it may run. Clients show it to people.
###
### $used, $limit: executions, as text: "?" or "-" if not known.
### $until, $again: an instant as it follows a verb: "on 1 December 2026 at 00:00 (Europe/Madrid)".

## Allowed

within_limit = Allowed: { $used } of { $limit } executions are used.
no_limit = Allowed: the plan has no limit.
over_soft_limit = Allowed, but past the limit: { $used } of { $limit } executions are used.
grace = Allowed for a while: all { $limit } executions of this period are used. Soon runs are refused.
not_counted = Allowed: the plan does not count this kind of run.
error_workflow = Allowed: a run of an error workflow is never refused.
# The plan is in shadow mode: it records what a limit would refuse, and refuses nothing.
shadow = Allowed: the plan only watches. Otherwise the run would be refused.
metering_stale_allowed = Allowed without a check: the usage figures are out of date.

## Refused

metering_stale = Refused: the usage figures are out of date, and the plan then allows no runs.
limit_reached = Refused: all { $limit } executions of this period are used. The limit begins anew { $until }.
limit_unsettled = Refused for now: some of the last runs may be counted twice until the next update. Try again { $again }.
overage_reached = Refused: the limit of { $limit } executions and all that is allowed past it are used. The limit begins anew { $until }.
tenant_minute_cap = Refused: too many runs in this minute. Try again { $again }.
tenant_day_cap = Refused: too many runs in this day. Try again { $again }.
tenant_concurrent_cap = Refused: too many runs are under way. Try again when some have ended.
workflow_minute_cap = Refused: too many runs of this workflow in this minute. Try again { $again }.
workflow_day_cap = Refused: too many runs of this workflow in this day. Try again { $again }.
workflow_concurrent_cap = Refused: too many runs of this workflow are under way. Try again when some have ended.
workflow_share_used = Refused: this workflow has used its part of the limit of { $limit } executions. The limit begins anew { $until }.
loop_detected = Refused: this workflow starts far more often than usual, as if it started itself.

## Beside the answer

# After a refusal.
hint = Runs may start again { $again }.
# Said by a client that cannot reach the limit check.
unavailable = Refused: whether this run is within its limit cannot be checked at the moment.
