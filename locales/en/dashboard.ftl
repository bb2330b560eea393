### The dashboard.
###
### Values: $count is a number, which chooses the plural and is written in the reader's format; all others are text.
### A phrase is a text, or one text for each plural of $count: `services/gateway/dashboard/phrases.js` is made of this file.

## Frame and session

skip = Skip to the figures
signOut = Sign out
signIn = Sign in
signInTitle = Sign in to Flowmeter
signInHelp = Use an operator's token, or a tenant's: it shows that tenant only.
token = Token
signInRefused = This token is not valid. It may have been withdrawn.
unreachable = Flowmeter cannot be reached. Try again in a moment.
signInTooMany = Too many attempts. Try again in a minute.
sessionEnded = Your session has ended. Sign in again.
footer = Flowmeter counts workflow executions, each exactly once.
api = API
theme = Theme
themeSystem = System
themeLight = Light
themeDark = Dark
language = Language
live = Live
connecting = Connecting…
offline = Offline, reconnecting…
offlineNotice = No connection to Flowmeter since { $time }. The figures below are the last ones received.
loading = Loading…
loadFailed = These figures cannot be read: { $reason }
cannotBeShown = These figures cannot be shown: { $reason }
notFound = There is no tenant “{ $tenant }”, or this token may not see it.
noTenants = No tenants yet
noTenantsHelp = Add a plan, a tenant and a source with “flowmeter apply”, and the first figures appear here.

## All tenants

overview = Usage
tenants = Tenants
allTenants = All tenants
archived = Archived
archivedOn = Archived { $date }
archivedTenants = { $count ->
    [one] { $count } archived tenant
   *[other] { $count } archived tenants
}
archivedHelp = Removed tenants. Their figures stay readable, what they owe is still billed, and their ids are not used again.
archivedMore = { $count ->
    [one] and { $count } more: flowmeter tenants --archived
   *[other] and { $count } more: flowmeter tenants --archived
}
stateOk = Within limit
stateOkSoFar = Within limit so far
stateWarning = Near limit
stateOver = Over limit
stateUnknown = Unknown
filterAll = All
filterLabel = Show tenants
noneInState = No tenant is in this state.
findTenant = Find a tenant
noMatch = Nothing matches.
counted = Counted
countedThisPeriod = Counted this period
countedHelp = Current period of each tenant
tenantsUnknown = { $count ->
    [one] { $count } tenant unknown, not included
   *[other] { $count } tenants unknown, not included
}

## The last minutes

recent = Last { $minutes } minutes
recentAdded = { $count } new
recentChart = Newly counted executions, last { $minutes } minutes
agoMinutes = { $minutes } min ago
now = now
peak = peak { $count } in { $seconds } s
successRate = Success rate
success = Success
failed = { $count ->
    [one] { $count } failed
   *[other] { $count } failed
}
costEstimate = Cost estimate
costHelp = So far, before taxes
noPrice = No price
open = { $count ->
    [one] { $count } open
   *[other] { $count } open
}
openExecutions = Open executions
openHelp = Started, not finished; not counted yet

## Sources, in short

metering = Metering
sourcesCurrent = { $count ->
    [one] Source current
   *[other] All { $count } sources current
}
sourcesFailing = { $count ->
    [one] { $count } of { $total } sources failing
   *[other] { $count } of { $total } sources failing
}
sourcesWaiting = { $count ->
    [one] { $count } of { $total } sources not swept yet
   *[other] { $count } of { $total } sources not swept yet
}
sourcesLosing = { $count ->
    [one] { $count } of { $total } sources may lose executions
   *[other] { $count } of { $total } sources may lose executions
}
gapsCount = { $count ->
    [one] { $count } gap
   *[other] { $count } gaps
}
gapsHelp = Executions that were gone before Flowmeter saw them
unmapped = { $count ->
    [one] { $count } execution belongs to no tenant
   *[other] { $count } executions belong to no tenant
}
unmappedHelp = Kept, and counted as soon as an attribution of their source gives them to a tenant
unmappedLine = { $count } of { $name } ({ $where })
unmappedMore = { $count ->
    [one] and { $count } more workflow
   *[other] and { $count } more workflows
}
sourcesStale = { $count ->
    [one] { $count } of { $total } sources late
   *[other] { $count } of { $total } sources late
}
noSources = No sources
completeAgo = Complete until { $when }

## A tenant's row

tenant = Tenant
usage = Usage
duration = Duration
freshness = Complete until
noLimit = No limit
ofLimit = of { $limit }
left = { $count } left
leftAtMost = at most { $count } left
overBy = { $count } over
usedOf = { $used } of { $limit } used
atLeastMark = ≥ { $count }
unknown = Unknown
unknownHelp = Not reported yet
resets = resets { $when }
resetsOn = Resets { $date }, { $when }
period = Period
mean = mean { $duration }
never = Not yet

## One tenant

executions = executions
thisPeriod = This period
remaining = Remaining
uncounted = Not counted
errors = Errors
crashed = Crashed
canceled = Canceled
late = Late
meanDuration = Mean duration
durationP50 = p50
durationP95 = p95
byDay = This period by day
noDays = Nothing was counted in this period yet.
peakDay = most: { $count } on { $date }
forecastEnd = Forecast: about { $count } at the period's end
forecastCost = about { $cost }
forecastLimit = the limit is reached on { $date }
totalDuration = Total duration
lateHelp = Found after their period had closed
uncountedHelp = The plan does not count these
adjusted = Adjusted by hand
adjustedHelp = Part of the count and of no day, workflow or success rate
voided = Voided
voidedHelp = Executions that an operator has taken out of all figures
otherWorkflows = Other workflows
total = Total
asOf = Figures of { $time }
floorNote = At least one source is failing. What it ran since then is not in these figures yet.
unknownNote = Flowmeter has no figures for this tenant yet. This does not mean that nothing ran.

## Limit check: check_ and the reason

limitCheck = Limit check
allowed = Allowed
refused = Refused
limitCheckHelp = The answer to a workflow that asks now
checkUsed = Used, reservations included
checkFailed = The limit check does not answer: { $reason }
check_within_limit = { $used } of { $limit } executions are used.
check_no_limit = The plan has no limit.
check_over_soft_limit = Past the limit, which refuses nothing: { $used } of { $limit } executions are used.
check_grace = All { $limit } executions of this period are used. Soon runs are refused.
check_not_counted = The plan does not count this kind of run.
check_error_workflow = A run of an error workflow is never refused.
check_shadow = The plan only watches. Otherwise runs would be refused.
check_not_attributed = No attribution of the source says whose run this is.
check_metering_stale = The usage figures are out of date, and the plan allows runs meanwhile.
check_metering_stale_refused = The usage figures are out of date, and the plan allows no runs meanwhile.
check_limit_unsettled = Some of the last runs may be counted twice for a moment. Try again: { $again }.
check_limit_reached = All { $limit } executions of this period are used. The limit begins anew: { $until }.
check_overage_reached = The limit of { $limit } executions and all that is allowed past it are used. The limit begins anew: { $until }.
check_tenant_minute_cap = Too many runs in this minute. The next may start: { $again }.
check_tenant_day_cap = Too many runs in this day. The next may start: { $again }.
check_tenant_concurrent_cap = Too many runs are under way. The next may start when some have ended.
check_workflow_minute_cap = Too many runs of this workflow in this minute. The next may start: { $again }.
check_workflow_day_cap = Too many runs of this workflow in this day. The next may start: { $again }.
check_workflow_concurrent_cap = Too many runs of this workflow are under way. The next may start when some have ended.
check_workflow_share_used = This workflow has used its part of the limit of { $limit } executions. The limit begins anew: { $until }.
check_loop_detected = This workflow starts far more often than usual, as if it started itself.
check_unknown_tenant = There is no such tenant.

## Sources of a tenant

resetsAt = Resets
limit = Limit
sources = Sources
complete = Complete until { $time }
notSwept = Not swept yet
sourceOk = Current
sourceFailing = Failing
sourceStale = Late
sourcePaused = Paused
sourceWaiting = Waiting for the first sweep
failingSince = since { $time }
attempts = { $count ->
    [one] { $count } attempt
   *[other] { $count } attempts
}
unseen = { $count ->
    [one] Up to { $count } execution since { $time } was never shown by n8n, because it is not saved or was deleted. It is not counted unless n8n pushes it: save executions, or install the hook.
   *[other] Up to { $count } executions since { $time } were never shown by n8n, because they are not saved or were deleted. They are not counted unless n8n pushes them: save executions, or install the hook.
}
unsaving = { $count ->
    [one] { $count } workflow says in its settings that some executions are not saved.
   *[other] { $count } workflows say in their settings that some executions are not saved.
}
clockRight = Clock right
clockAhead = Clock { $by } ahead
clockBehind = Clock { $by } behind
warningSince = Since { $time }.
warning_clock_ahead = The clock of this n8n is { $by } ahead of Flowmeter's. Set it by NTP: until then an execution near the end of a period counts in the next one.
warning_clock_behind = The clock of this n8n is { $by } behind Flowmeter's. Set it by NTP: until then an execution near the end of a period counts in the one before, or late.
warning_shared_push_token = { $count ->
    [one] { $count } n8n pushes with this source's token beside others, and executions are lost. Make a source and a push token for each n8n.
   *[other] { $count } n8n push with this source's token, and executions of all but one are lost. Make a source and a push token for each n8n.
}
warning_same_instance = The n8n of this source pushes for { $others } too, and each execution counts once for each. Keep one source, and share it by attributions.
warning_same_address = { $others } has the same address, and each execution counts once for each. Remove or pause all but one, and share that one by attributions.
lossAhead = n8n will prune executions before the next sweep, about { $time }.

## Gaps: gap_ and the reason

gapRange = Executions { $first } to { $last }
gapFrom = Executions { $first } and later
gapOne = Execution { $first }
gapUnknown = Executions whose ids are not known
gapsMore = { $count ->
    [one] and { $count } more
   *[other] and { $count } more
}
gap_open_execution_vanished = was running, and is gone
gap_pruned_before_seen = pruned before it was seen
gap_epoch_ended = the database was restored or replaced
gap_unspecified = reason not known

## Why a source fails (reason_), and what to do (advice_)

reason_unreachable = Unreachable
reason_unauthorized = API key refused
reason_rate_limited = Rate limited
reason_unreadable = Answer not understood
reason_too_large = Answer too large
reason_secret_unreadable = Stored API key cannot be opened
reason_internal = Flowmeter's own fault
reason_unspecified = Failing
advice_unreachable = Check that n8n runs, and that Flowmeter can reach its address.
advice_unauthorized = Create an API key in n8n (Settings, n8n API) and set it on the source.
advice_rate_limited = Raise the limit of the key in n8n, or let the source be swept less often.
advice_unreadable = Check that the source's address is that of an n8n, and what stands in front of it.
advice_too_large = Let n8n prune its executions, or delete old ones.
advice_secret_unreadable = Set the source's API key again.
advice_internal = The source is not to blame: look at Flowmeter's broker and database.
advice_unspecified = Look at the collector's log.

## Workflows

workflows = Workflows
workflow = Workflow
source = Source
share = Share
findWorkflow = Find a workflow
noWorkflows = No executions in this period yet.
workflowsOmitted = { $count ->
    [one] { $count } smaller workflow is not listed.
   *[other] { $count } smaller workflows are not listed.
}
showAll = { $count ->
    [one] Show { $count } more
   *[other] Show { $count } more
}

## Refused runs: refusal_ and the reason

refusedRuns = Refused runs
refusedCount = Refused
wouldBeRefused = Would have been refused
reason = Reason
noRefusals = No run was refused in this period.
otherRefusals = Others
furtherWorkflows = Further workflows
noWorkflowNamed = No workflow named
refusal_limit_reached = Limit reached
refusal_limit_unsettled = Limit reached, or some runs counted twice for a moment
refusal_overage_reached = Allowed overage used
refusal_metering_stale = Usage figures out of date
refusal_tenant_minute_cap = Too many runs in a minute
refusal_tenant_day_cap = Too many runs in a day
refusal_tenant_concurrent_cap = Too many runs under way
refusal_workflow_minute_cap = Too many runs of the workflow in a minute
refusal_workflow_day_cap = Too many runs of the workflow in a day
refusal_workflow_concurrent_cap = Too many runs of the workflow under way
refusal_workflow_share_used = The workflow's share of the limit is used
refusal_loop_detected = Loop

## Closed periods

closedPeriods = Closed periods
closed = Closed
noClosedPeriods = No period has closed yet.
incomplete = Incomplete: { $sources }
lateFound = { $count ->
    [one] { $count } late
   *[other] { $count } late
}
