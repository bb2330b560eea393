### Mails to the people of a tenant: it has used a share of its limit.
###
### $name: the tenant's. $used, $limit: executions. $percent: "80 %".
### $of_period: as it follows a usage: "for November 2026".
### $crossed, $ends: instants as they follow a verb: "on 24 November 2026 at 13:05". $zone: "Europe/Madrid".

alert =
    .subject = { $name } has used { $percent } of its executions { $of_period }
    .what = { $name } has used { $used } of its { $limit } executions { $of_period }. It reached { $percent } { $crossed }.
    .passed = On the way it also passed { $shares }.
    .next = The period ends { $ends } ({ $zone }); then the count starts again from zero.
    .figure = { $used } of { $limit } executions
    .look = Current usage, workflow by workflow, is on the dashboard.
    .button = Open the dashboard
    .because = You receive this mail because your address is among those that { $name } has chosen for usage alerts.

# The end of a list in .passed: "50 %, 60 % and 70 %".
shares = { $first } and { $last }

## Labels of the table

label_remaining = Remaining
label_threshold = Threshold
label_reached = Reached
label_period = Period
label_ends = Period ends
label_zone = Time zone

## What happens at the limit: before it is reached (.ahead), and after (.reached)

refuses =
    .ahead = The limit is hard: once it is reached, new runs will be refused until the period ends.
    .reached = The limit is hard, and it is reached: new runs are refused until the period ends or the limit is raised.

# $grace: "24 hours".
refuses_after =
    .ahead = The limit is hard, with a grace of { $grace }: once it is reached, runs still start for that long. Then new runs will be refused until the period ends.
    .reached = The limit is hard, and it is reached. From the first run at the limit on, runs still start for { $grace }. Then new runs are refused until the period ends or the limit is raised.

# The plan is in shadow mode: it records what a hard limit would refuse, and refuses nothing.
watches =
    .ahead = The plan only watches: once the limit is reached, runs go on. What a hard limit would refuse is recorded.
    .reached = The limit is reached, and the plan only watches: runs go on. What a hard limit would refuse is recorded.

overage =
    .ahead = The limit is soft: runs go on beyond it, and what is beyond it counts as overage.
    .reached = The limit is soft, and it is reached: runs go on, and what is beyond it counts as overage.

# $most: executions beyond the limit.
overage_of =
    .ahead = The limit is soft: runs go on beyond it, and up to { $most } more count as overage. Then new runs will be refused until the period ends.
    .reached = The limit is soft, and it is reached: runs go on, and up to { $most } more count as overage. Then new runs are refused until the period ends or the limit is raised.
    .used = The limit and all { $most } executions of overage are used: new runs are refused until the period ends or the limit is raised.
