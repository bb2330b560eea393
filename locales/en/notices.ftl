### Mails to the operator: what has gone wrong with a source, a service, a report or a workflow.
###
### Each has a subject, what happened, what it means, and what is to be done.
###
### $source, $tenant, $workflow, $service: names and ids as they are stored.
### $count: how many there are; it chooses the plural.
### $since, $at: an instant in a list: "24 November 2026, 13:05 UTC".
### $on_since, $on_at: the same instant as it follows a verb: "on 24 November 2026 at 13:05 UTC".

## Every mail

look = The sources, and how complete the figures are, are on the dashboard.
button = Open the dashboard
because = You receive this mail because your address is among the operator's in Flowmeter's configuration.

# Of execution ids or of instants.
range = { $first } to { $last }
# Execution ids, the last one of which is not known.
range_without_end = { $first } and later

## Labels of the table

label_source = Source
label_service = Service
label_tenant = Tenant
label_gaps = Gaps
label_executions = Executions
label_reason = Reason
label_found = Found
label_since = Failing since
label_until = Swept again
label_attempts = Attempts
label_expected = Expected
label_messages = Messages
label_subject = First from
label_reports = Reports
label_identifier = First identifier
label_period = Period
label_billable = Billable
label_stripe = Counted by Stripe
label_workflow = First workflow
label_loops = Loops
label_per_minute = Starts in the minute so far
label_usual = Usual in a minute
label_example = One of them
label_skew = Clock skew
label_instances = n8n instances
label_other_sources = Other sources
label_mails = Recipients
label_recipient = Recipient

## Executions are missing

# $ids: "120 to 180", "120" or "120 and later".
gap =
    .subject = { $count ->
        [one] { $source } has a gap in its executions
       *[other] { $source } has { $count } gaps in its executions
    }
    .what = { $count ->
        [one] { $source } no longer shows what it ran as { $ids }, and it was never collected.
       *[other] { $count } gaps were found at { $source } (executions { $ids }): it no longer shows what it ran there, and that was never collected.
    }
    .meaning = What is missing is in no figure and on no invoice: true usage may be higher.
    .next_pruned = Let n8n keep more executions (EXECUTIONS_DATA_PRUNE_MAX_COUNT, EXECUTIONS_DATA_MAX_AGE), or sweep it more often (poll_interval).
    .next_vanished = Somebody deleted it, or its workflow does not save executions that end so.
    .next_epoch_ended = What ran between the last sweep and the restore cannot be seen. Sweeps go on with the new database.
    .next_unspecified = `flowmeter sources gaps { $source }` lists them.

# In the table.
gap_reason =
    .vanished = was running, and is gone
    .pruned = pruned before they were seen
    .epoch_ended = the database was restored or replaced
    .unspecified = several, or not known

## A source cannot be swept

# $reason: one of failure_reason. $detail: the collector's own sentence, in English.
failing =
    .subject = { $source } cannot be swept
    .what = { $source } has been failing since { $since }: { $reason }.
    .meaning = What it runs meanwhile is counted once it is swept again, as far as it still shows it then.
    .next = Look at the source.
    .next_with_detail = { $detail }

# In sentences and in the table.
failure_reason =
    .unreachable = it does not answer
    .unauthorized = it refuses the API key
    .rate_limited = it answers that there are too many requests
    .unreadable = its answer is not understood
    .too_large = its answer is too large
    .secret_unreadable = the stored API key cannot be opened
    .internal = Flowmeter's own broker or database does not answer
    .unspecified = the reason is not known

recovered =
    .subject = { $source } is swept again
    .what = { $source } had been failing since { $since }. A sweep ended well { $on_at }.
    .meaning = What it ran meanwhile is being counted.
    .next = Executions that it no longer shows are reported as a gap.

## A source may lose executions, or counts wrongly

loss =
    .subject = { $source } is about to lose executions
    .what = At its present rate, { $source } will prune executions before the next sweep has seen them, about { $at }.
    .meaning = What is pruned before it is seen is never counted.
    .next = Let n8n keep more executions (EXECUTIONS_DATA_PRUNE_MAX_COUNT), sweep it more often (poll_interval), or let it push what it runs.

contradicted =
    .subject = { $source } does not show what was pushed for it
    .what = Today { $count } executions were pushed for { $source } otherwise than its own list shows them: with another workflow, mode, status or end.
    .meaning = The figures follow the list, so they are right. Somebody may have the source's push token.
    .next = Make a new token (`flowmeter sources push-token { $source }`) and put it where no workflow can read it: the README of the hook says how. `flowmeter source audit { $source }` compares the whole list.

# $by: how far, "1m 30s".
clock_ahead =
    .subject = The clock of { $source } is { $by } ahead
    .what = The clock of the n8n of { $source } is { $by } ahead of Flowmeter's.
    .meaning = An execution near the end of a period counts in the next one.
    .next = Set the clock of that machine by NTP. Where you get this mail for every source, Flowmeter's own clock is wrong.

clock_behind =
    .subject = The clock of { $source } is { $by } behind
    .what = The clock of the n8n of { $source } is { $by } behind Flowmeter's.
    .meaning = An execution near the end of a period counts in the one before, or late where that has closed.
    .next = { clock_ahead.next }

shared_token =
    .subject = Several n8n push as { $source }
    .what = { $count } n8n instances push their executions with the token of { $source }.
    .meaning = They hand out the same execution ids, so executions of all but one are taken for repeats and are not counted.
    .next = Make a source for each n8n, and a push token for each source (`flowmeter sources push-token`). n8n shows its instance id in About n8n.

# $others: sources.
counted_twice =
    .subject = The n8n of { $source } is metered more than once
    .what = The n8n of { $source } pushes its executions for { $others } too.
    .meaning = Each of its executions counts once for each of these sources, and is billed so.
    .next = Keep one source, remove the others, and share it by attributions (workflow, tag or project).

## A service or a report has failed

# $reason: in English, from the service.
dead =
    .subject = { $count ->
        [one] { $service } could not handle a message
       *[other] { $service } could not handle { $count } messages
    }
    .what = { $count ->
        [one] A message has become a dead letter: { $reason }.
       *[other] { $count } messages have become dead letters. The reason of the first: { $reason }.
    }
    .meaning = Nothing is lost: dead letters are kept for 30 days. What they say is in no figure yet.
    .next = `flowmeter dead list` shows them. When the cause is mended, `flowmeter dead replay` sends them again.

# $count: reports. $quantity: executions of the first one.
report =
    .subject = { $count ->
        [one] A report to Stripe about { $tenant } has failed
       *[other] { $count } reports to Stripe about { $tenant } have failed
    }
    .what = { $count ->
        [one] { $quantity } executions of { $tenant } could not be reported to Stripe.
       *[other] Not all that { $tenant } has used could be reported to Stripe; the first report has { $quantity } executions.
    }
    .what_correction = A correction of { $quantity } executions of { $tenant } could not be reported to Stripe.
    .meaning = They are on no invoice until somebody has looked after it.

drift =
    .subject = Stripe counts otherwise for { $tenant }
    .what = For { $tenant }, { $billable } executions of a period are billable, and Stripe has counted { $stripe }.
    .meaning = The invoice follows Stripe's figure.
    .next = Look for meter events that somebody else has sent or canceled, before the invoice is final.

# $first: an address.
refused_mail =
    .subject = { $count ->
        [one] Mail to { $first } cannot be delivered
       *[other] Mail to { $count } recipients cannot be delivered
    }
    .what = { $count ->
        [one] A mail to { $first } was refused and will not be sent again.
       *[other] Mails to { $count } recipients, { $first } among them, were refused and will not be sent again.
    }
    .meaning = These recipients do not get Flowmeter's warnings.
    .next = Correct the addresses (a tenant's alert_recipients, or operator_recipients), and reach them in another way meanwhile.

## A workflow seems to start itself

# $asked, $usual: runs in a minute. $most: what is still usual. $started: runs of that minute that had started.
loop =
    .subject = { $count ->
        [one] A workflow of { $tenant } seems to start itself
       *[other] Workflows of { $tenant } seem to start themselves ({ $count } times)
    }
    .what = The workflow { $workflow } of { $tenant } wanted to start { $asked } times within a minute; { $usual } are usual for it.
    .what_most = More than { $most } are taken for a loop.
    .what_refusing = { $started } runs of that minute had started. Since { $since } its runs are refused.
    .meaning_refusing = Its runs are refused until it has paused for a minute, or has asked less often for one. A rate that lasts for about a quarter of an hour becomes usual, and is not refused any more. What has started counts.
    .meaning_shadow = The plan only watches: its runs start and count. Otherwise they would be refused now.
    .meaning_counted = Nothing is refused because of it: its runs start, and count as all others do.
    .next_refusing = Look at what starts the workflow.
    .next = Look at what starts the workflow. A plan may refuse such runs (admission.loop_rule: refuse).
